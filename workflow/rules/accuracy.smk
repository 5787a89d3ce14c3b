# Needs: the student, labels of molecules not used in its training, and its NVE trajectories (run_md).
# Makes: results/{run}/student/accuracy.json on held-out molecules, accuracy_visited.json on frames of that MD, labeled
# by the teacher, and the student's model card (README.md with figures/).

# Only MD of eager, to which all variants are equivalent: an edit of another variant then causes no new labels.
VISITED = expand(
    "results/{run}/md/{variant}/{system}.extxyz",
    run=RUN,
    variant=BASELINE,
    system=MD_SYSTEMS if config["accuracy"]["visited_frames"] and TEACHER else [],
)
ACCURACY = expand(
    "results/{run}/student/{what}.json",
    run=RUN,
    what=["accuracy", "accuracy_visited"] if VISITED else ["accuracy"],
)
# The learning curve of the shipped student, or of the student that this run trains.
TRAINED_HERE = ROUNDS or not config["student"]["checkpoint"]
TRAINING = f"results/{RUN}/student/training.json" if TRAINED_HERE else shipped("training.json")


rule measure_accuracy:
    input:
        student="results/{run}/student/student.safetensors",
        dataset="results/{run}/dataset/labels.h5",
        card="results/{run}/dataset/labels.json",
        expected=shipped("accuracy_default.json"),
    output:
        "results/{run}/student/accuracy.json",
    log:
        "logs/{run}/measure_accuracy.log",
    conda:
        "../../envs/student.yaml"
    resources:
        **MEASURED,
    params:
        code=code_of("training.accuracy"),
        expected=lambda wildcards, input: option("expected", input.expected),
    shell:
        "python -m mlff_distiller accuracy --checkpoint {input.student:q} --dataset {input.dataset:q}"
        " --dataset-card {input.card:q} {params.expected} --output {output:q} > {log:q} 2>&1"


rule label_visited:
    input:
        trajectories=VISITED,
    output:
        dataset="results/{run}/dataset/visited.h5",
        card="results/{run}/dataset/visited.json",
    log:
        "logs/{run}/label_visited.log",
    conda:
        TEACHER_ENVIRONMENT
    threads: workflow.cores
    resources:
        **LABELS,
    params:
        code=code_of("data.labeling"),
        teacher_python=python_of_teacher,
        settings=settings({"teacher": config["teacher"]}),
        frames=config["accuracy"]["visited_frames"],
    shell:
        "{params.teacher_python} -m mlff_distiller label --trajectories {input.trajectories:q} --frames {params.frames:q}"
        " --settings {params.settings:q} --cores {threads} --card {output.card:q} --output {output.dataset:q} > {log:q} 2>&1"


rule measure_visited_accuracy:
    input:
        student="results/{run}/student/student.safetensors",
        dataset="results/{run}/dataset/visited.h5",
    output:
        "results/{run}/student/accuracy_visited.json",
    log:
        "logs/{run}/measure_visited_accuracy.log",
    conda:
        "../../envs/student.yaml"
    resources:
        **MEASURED,
    params:
        code=code_of("training.accuracy"),
    shell:
        "python -m mlff_distiller accuracy --checkpoint {input.student:q} --dataset {input.dataset:q}"
        " --splits visited --output {output:q} > {log:q} 2>&1"


rule write_model_card:
    input:
        student="results/{run}/student/student.safetensors",
        accuracy=ACCURACY,
        acceptance=ACCEPTANCE,
        rounds=gains,
        recipe_accuracy=shipped("accuracy.json"),
        training=TRAINING,
        dataset_card=("results/{run}/dataset/labels.json" if TRAINED_HERE else shipped("dataset_card.json")),
        templates=expand(
            "workflow/mlff_distiller/report/templates/{name}.md.j2",
            name=["STUDENT_CARD", "acceptance", "rounds", "stress"],
        ),
    output:
        "results/{run}/student/README.md",
    log:
        "logs/{run}/write_model_card.log",
    conda:
        "../../envs/report.yaml"
    resources:
        **SMALL,
    params:
        code=code_of("report.model_card"),
        given=lambda wildcards, input: " ".join(
            [
                *(
                    option(name.replace("_", "-"), getattr(input, name))
                    for name in ("recipe_accuracy", "acceptance", "training", "dataset_card")
                ),
                shlex.join(["--rounds", *input.rounds]) if ROUNDS else "",
            ]
        ),
    shell:
        "python -m mlff_distiller model-card --checkpoint {input.student:q} --accuracy {input.accuracy:q} {params.given}"
        " --output {output:q} > {log:q} 2>&1"


rule accuracy:
    input:
        CHECKS,
        ACCURACY,
        expand("results/{run}/student/README.md", run=RUN),
