"""The names in records: tasks, stages, kinds of work, and two variants with a role of their own.

Put no text for people here: the stages that measure import this, and an edit would run them again.
"""

#: The variant that all others are compared with; it must be in every configuration.
BASELINE = "eager"
#: Stands in the place of a variant in the teacher's own timings.
TEACHER = "teacher"

#: What is timed of one molecule at a time.
TASKS = ("energy", "energy_forces")
#: What batches and large systems are measured by.
SCALING_TASKS = ("throughput", "periodic", "calculator", "md_steps")
#: Kinds of records that a variant leaves, that of the timings first.
STAGES = ("benchmark", "compile", "equivalence", "md")

#: Kinds of work for which a variant is handed over, and the task that speaks for each; the keys name the bundles' folders.
WORK = {"one_molecule": "energy_forces", "many_molecules": "throughput", "large_systems": "periodic"}
#: Families that PyTorch's own tools make of eager.
STOCK = ("torchscript", "torch_compile", "cuda_graph")
