# Needs: compiled variants and their equivalence records; for the spectra and the pairs of liquids, the teacher.
# Makes: results/{run}/md/{variant}/: one record per check and system, and the trajectory (extxyz) of each NVE run;
#        results/{run}/md/{reference,teacher}/: fp64 runs and the teacher's dynamics, with which variants are compared.

# Eager PyTorch in fp64 takes hours for 10 ps; long runs use the C++ kernel in fp64, checked against eager on the way.
REFERENCE_FAMILY = {"short": "eager", "long": "cpp"}
# Inputs of every rule that runs a variant.
VARIANT = {
    "variant": "results/{run}/variants/{variant}/variant.json",
    "equivalence": "results/{run}/variants/{variant}/equivalence.json",
    "student": "results/{run}/student/student.safetensors",
    "torch_cluster": torch_cluster_of,
}


rule run_reference:
    input:
        machine="results/{run}/preflight/machine.json",
        student="results/{run}/student/student.safetensors",
        molecule=lambda wildcards: files_of([wildcards.system]),
    output:
        "results/{run}/md/reference/{length}/{system}.json",
    log:
        "logs/{run}/run_reference/{length}/{system}.log",
    wildcard_constraints:
        length="short|long",
    conda:
        "../../envs/student.yaml"
    threads: MD["threads"]
    resources:
        **MD_RUN,
    params:
        code=lambda wildcards: family_code("md.reference", "eager", REFERENCE_FAMILY[wildcards.length]),
        system=lambda wildcards: SYSTEMS[wildcards.system],
        settings=lambda wildcards: as_json(nve_settings(wildcards.length)),
        family=lambda wildcards: REFERENCE_FAMILY[wildcards.length],
        torch_threads=MD["threads"],
    shell:
        "python -m mlff_distiller md-reference --checkpoint {input.student:q} --system {params.system:q}"
        " --family {params.family:q} --settings {params.settings:q} --threads {params.torch_threads:q}"
        " --output {output:q} > {log:q} 2>&1"


rule run_md:
    input:
        **VARIANT,
        molecule=lambda wildcards: files_of([wildcards.system]),
        reference=reference_of,
    output:
        records="results/{run}/md/{variant}/{system}.json",
        trajectory="results/{run}/md/{variant}/{system}.extxyz",
    log:
        "logs/{run}/run_md/{variant}/{system}.log",
    benchmark:
        "logs/{run}/run_md/{variant}/{system}.tsv"
    wildcard_constraints:
        system="[^/]+",
    conda:
        "../../envs/student.yaml"
    threads: MD["threads"]
    resources:
        **MD_RUN,
    params:
        code=variant_code("md.simulate"),
        system=lambda wildcards: SYSTEMS[wildcards.system],
        settings=lambda wildcards: as_json(nve_settings(run_length(wildcards.variant))),
        torch_threads=MD["threads"],
        torch_cluster=torch_cluster_option,
        more=lambda wildcards, input: option("reference", input.reference),
    shell:
        "python -m mlff_distiller simulate --variant {input.variant:q} --equivalence {input.equivalence:q}"
        " --checkpoint {input.student:q} {params.torch_cluster} --system {params.system:q} {params.more}"
        " --settings {params.settings:q} --threads {params.torch_threads:q}"
        " --trajectory {output.trajectory:q} --output {output.records:q} > {log:q} 2>&1"


use rule run_md as run_liquid with:
    input:
        **VARIANT,
        box=lambda wildcards: split_frame(LIQUIDS[wildcards.system])[0],
    output:
        records="results/{run}/md/{variant}/liquid/{system}.json",
        trajectory="results/{run}/md/{variant}/liquid/{system}.extxyz",
    log:
        "logs/{run}/run_liquid/{variant}/{system}.log",
    benchmark:
        "logs/{run}/run_liquid/{variant}/{system}.tsv"
    params:
        system=lambda wildcards: LIQUIDS[wildcards.system],
        settings=settings(MD["settings"] | MD["liquid"]["settings"]),
        more="--task liquid",


rule check_timestep:
    input:
        **VARIANT,
        molecule=lambda wildcards: files_of([wildcards.system]),
    output:
        "results/{run}/md/{variant}/timestep/{system}.json",
    log:
        "logs/{run}/check_timestep/{variant}/{system}.log",
    conda:
        "../../envs/student.yaml"
    threads: MD["threads"]
    resources:
        **MD_RUN,
    params:
        command="md-timestep",
        code=variant_code("md.timestep"),
        system=lambda wildcards: SYSTEMS[wildcards.system],
        settings=settings(MD["timestep"]["settings"]),
        torch_threads=MD["threads"],
        torch_cluster=torch_cluster_option,
        more="",
    shell:
        "python -m mlff_distiller {params.command} --variant {input.variant:q} --equivalence {input.equivalence:q}"
        " --checkpoint {input.student:q} {params.torch_cluster} --system {params.system:q} {params.more}"
        " --settings {params.settings:q} --threads {params.torch_threads:q} --output {output:q} > {log:q} 2>&1"


use rule check_timestep as check_thermostat with:
    output:
        "results/{run}/md/{variant}/nvt/{system}.json",
    log:
        "logs/{run}/check_thermostat/{variant}/{system}.log",
    params:
        command="md-thermostat",
        code=variant_code("md.thermostat"),
        settings=settings(MD["nvt"]["settings"]),


rule run_teacher_dynamics:
    input:
        molecule=lambda wildcards: files_of([wildcards.system]),
    output:
        "results/{run}/md/teacher/{system}.npz",
    log:
        "logs/{run}/run_teacher_dynamics/{system}.log",
    wildcard_constraints:
        system="[^/]+",
    conda:
        TEACHER_ENVIRONMENT
    threads: MD["threads"]
    resources:
        **TEACHER_RUN,
    params:
        code=code_of("md.teacher_trajectory"),
        teacher_python=python_of_teacher,
        system=lambda wildcards: SYSTEMS[wildcards.system],
        settings=settings({"teacher": config["teacher"], "spectra": MD["spectra"]["settings"]}),
    shell:
        "OMP_NUM_THREADS={threads} {params.teacher_python} -m mlff_distiller md-teacher --system {params.system:q}"
        " --settings {params.settings:q} --output {output:q} > {log:q} 2>&1"


use rule check_timestep as compare_spectra with:
    input:
        **VARIANT,
        molecule=lambda wildcards: files_of([wildcards.system]),
        teacher="results/{run}/md/teacher/{system}.npz",
    output:
        "results/{run}/md/{variant}/spectra/{system}.json",
    log:
        "logs/{run}/compare_spectra/{variant}/{system}.log",
    params:
        command="md-spectra",
        code=variant_code("md.spectra"),
        settings=settings(MD["spectra"]["settings"]),
        more=lambda wildcards, input: option("teacher", input.teacher),


use rule run_teacher_dynamics as run_teacher_liquid with:
    input:
        box=lambda wildcards: split_frame(LIQUIDS[wildcards.system])[0],
    output:
        "results/{run}/md/teacher/pairs/{system}.npz",
    log:
        "logs/{run}/run_teacher_liquid/{system}.log",
    params:
        system=lambda wildcards: LIQUIDS[wildcards.system],
        settings=settings({"teacher": config["teacher"], "pairs": MD["pairs"]["settings"]}),


use rule check_timestep as compare_pairs with:
    input:
        **VARIANT,
        box=lambda wildcards: split_frame(LIQUIDS[wildcards.system])[0],
        teacher="results/{run}/md/teacher/pairs/{system}.npz",
    output:
        "results/{run}/md/{variant}/pairs/{system}.json",
    log:
        "logs/{run}/compare_pairs/{variant}/{system}.log",
    params:
        command="md-pairs",
        code=variant_code("md.pairs"),
        system=lambda wildcards: LIQUIDS[wildcards.system],
        settings=settings(MD["pairs"]["settings"]),
        more=lambda wildcards, input: option("teacher", input.teacher),


rule md:
    input:
        CHECKS,
        expand(
            "results/{run}/md/{variant}/{system}.json",
            run=RUN,
            variant=config["variants"],
            system=MD_SYSTEMS,
        ),
        check_records("timestep"),
        check_records("nvt"),
        check_records("spectra"),
        check_records("pairs"),
        check_records("liquid"),
