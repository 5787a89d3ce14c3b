# Needs: preflight, the student; torch-cluster for the variants that use it.
# Makes: results/{run}/variants/{variant}/: the artifact with its metadata, and its equivalence record.


rule compile_variant:
    input:
        machine="results/{run}/preflight/machine.json",
        student="results/{run}/student/student.safetensors",
        torch_cluster=torch_cluster_of,
        molecules=files_of(SYSTEMS),
    output:
        "results/{run}/variants/{variant}/variant.json",
    log:
        "logs/{run}/compile_variant/{variant}.log",
    benchmark:
        "logs/{run}/compile_variant/{variant}.tsv"
    priority: ALL_CORES_FIRST
    conda:
        "../../envs/student.yaml"
    # Compile time is a result, so the job has all cores of a small machine, or four of a larger one, to itself.
    threads: 4
    resources:
        **COMPILE,
    params:
        code=variant_code("variants.compile"),
        spec=lambda wildcards: as_json(config["variants"][wildcards.variant]),
        systems=list(SYSTEMS.values()),
        torch_threads=config["benchmark"]["threads"],
        torch_cluster=torch_cluster_option,
    shell:
        "TORCHINDUCTOR_COMPILE_THREADS={threads} python -m mlff_distiller compile --name {wildcards.variant:q} --settings {params.spec:q}"
        " --preflight {input.machine:q} --checkpoint {input.student:q} {params.torch_cluster}"
        " --systems {params.systems:q} --threads {params.torch_threads:q}"
        " --variant {output:q} > {log:q} 2>&1"


rule check_equivalence:
    input:
        variant="results/{run}/variants/{variant}/variant.json",
        student="results/{run}/student/student.safetensors",
        torch_cluster=torch_cluster_of,
        molecules=files_of(SYSTEMS),
    output:
        "results/{run}/variants/{variant}/equivalence.json",
    log:
        "logs/{run}/check_equivalence/{variant}.log",
    benchmark:
        "logs/{run}/check_equivalence/{variant}.tsv"
    conda:
        "../../envs/student.yaml"
    resources:
        **MEASURED,
    params:
        code=variant_code("variants.check_equivalence"),
        systems=list(SYSTEMS.values()),
        frames=config["equivalence"]["frames"],
        amplitude=config["equivalence"]["amplitude"],
        seed=config["equivalence"]["seed"],
        torch_cluster=torch_cluster_option,
    shell:
        "python -m mlff_distiller validate --variant {input.variant:q} --checkpoint {input.student:q} {params.torch_cluster}"
        " --systems {params.systems:q} --frames {params.frames:q}"
        " --amplitude {params.amplitude:q} --seed {params.seed:q} --output {output:q} > {log:q} 2>&1"


rule compile:
    input:
        CHECKS,
        expand(
            "results/{run}/variants/{variant}/{what}.json",
            run=RUN,
            variant=config["variants"],
            what=["variant", "equivalence"],
        ),
