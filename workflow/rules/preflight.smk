# Needs: nothing but the machine and the configured inputs.
# Makes: results/{run}/preflight/{machine,inputs,teacher,torch_cluster}.json; stops the run early, with advice, if later jobs would fail.


rule check_machine:
    output:
        "results/{run}/preflight/machine.json",
    log:
        "logs/{run}/check_machine.log",
    # Checks run first; after a failed job Snakemake starts no new one.
    priority: 100
    conda:
        "../../envs/student.yaml"
    resources:
        **MACHINE,
    params:
        code=code_of("preflight.machine"),
        settings=settings({"device": config["device"], "torch": config["torch"]}),
    shell:
        "python -m mlff_distiller preflight --settings {params.settings:q} --output {output:q} 2>&1 | tee {log:q}"


rule check_inputs:
    input:
        molecules=files_of(SYSTEMS),
        checkpoint=config["student"]["checkpoint"] or [],
        dataset=config["student"]["dataset"] or [],
    output:
        "results/{run}/preflight/inputs.json",
    log:
        "logs/{run}/check_inputs.log",
    # No measurement has this as an input, so a repeated check reruns only the report.
    priority: 100
    conda:
        "../../envs/student.yaml"
    resources:
        **SMALL,
    params:
        code=code_of("preflight.inputs"),
        systems=list(SYSTEMS.values()),
        given=lambda wildcards, input: " ".join(
            option(name, getattr(input, name)) for name in ("checkpoint", "dataset")
        ),
        settings=settings(config["student"]["own_data"]),
    shell:
        "python -m mlff_distiller check-inputs --systems {params.systems:q}"
        " {params.given} --settings {params.settings:q} --output {output:q} 2>&1 | tee {log:q}"


rule check_teacher:
    input:
        molecules=files_of(SYSTEMS),
        structures=SAMPLED_FILES,
    output:
        "results/{run}/preflight/teacher.json",
    log:
        "logs/{run}/check_teacher.log",
    priority: 100
    conda:
        TEACHER_ENVIRONMENT
    resources:
        **SMALL,
    params:
        code=code_of("preflight.teacher"),
        teacher_python=python_of_teacher,
        systems=list(SYSTEMS.values()),
        structures=(
            " ".join(["--structures", *map(shlex.quote, SAMPLED), *["--structures-alone"] * ALONE]) if SAMPLED else ""
        ),
        cells="--cells-learned" if ROUNDS or SAMPLING_OF.get("coverage", {}).get("boxes") else "",
        settings=settings({"teacher": config["teacher"]}),
    shell:
        f"rm -f {REFUSED}; "
        "{params.teacher_python} -m mlff_distiller check-teacher --systems {params.systems:q} {params.structures}"
        " {params.cells} --settings {params.settings:q} --output {output:q} 2>&1 | tee {log:q}"
        f" || {{{{ touch {REFUSED}; exit 1; }}}}"


rule obtain_torch_cluster:
    input:
        machine="results/{run}/preflight/machine.json",
    output:
        "results/{run}/preflight/torch_cluster.json",
    log:
        "logs/{run}/obtain_torch_cluster.log",
    priority: ALL_CORES_FIRST
    conda:
        "../../envs/student.yaml"
    # A build compiles on torch_cluster.build_jobs cores, all by default.
    threads: workflow.cores
    resources:
        **BUILD,
    params:
        code=code_of("preflight.torch_cluster"),
        settings=settings(config["torch_cluster"]),
    shell:
        "python -m mlff_distiller torch-cluster --settings {params.settings:q} --cores {threads} --output {output:q}"
        " 2>&1 | tee {log:q}"


rule preflight:
    input:
        CHECKS,
        f"results/{RUN}/preflight/torch_cluster.json",
