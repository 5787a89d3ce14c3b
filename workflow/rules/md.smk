# Needs: compiled variants and their equivalence records.
# Makes: results/{run}/md/{variant}/{system}.json and the trajectory beside it (extxyz), one NVE run per job.


rule run_md:
    input:
        variant="results/{run}/variants/{variant}/variant.json",
        equivalence="results/{run}/variants/{variant}/equivalence.json",
        student="results/{run}/student/student.safetensors",
        torch_cluster=torch_cluster_of,
        molecule=lambda wildcards: files_of([wildcards.system]),
        code=variant_sources("simulate"),
    output:
        records="results/{run}/md/{variant}/{system}.json",
        trajectory="results/{run}/md/{variant}/{system}.extxyz",
    log:
        "logs/{run}/run_md/{variant}/{system}.log",
    benchmark:
        "logs/{run}/run_md/{variant}/{system}.tsv"
    conda:
        "../../envs/student.yaml"
    threads: config["md"]["threads"]
    params:
        system=lambda wildcards: SYSTEMS[wildcards.system],
        settings=settings(config["md"]["settings"]),
        torch_threads=config["md"]["threads"],
        torch_cluster=torch_cluster_option,
    shell:
        "python -m mlff_distiller simulate --variant {input.variant} --equivalence {input.equivalence}"
        " --checkpoint {input.student} {params.torch_cluster} --system {params.system:q}"
        " --settings {params.settings:q} --threads {params.torch_threads}"
        " --trajectory {output.trajectory} --output {output.records} > {log} 2>&1"


rule md:
    input:
        CHECKS,
        expand(
            "results/{run}/md/{variant}/{system}.json",
            run=RUN,
            variant=config["variants"],
            system=MD_SYSTEMS,
        ),
