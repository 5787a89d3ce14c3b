# Needs: the student, the molecule list and the teacher.
# Makes: results/{run}/acceptance/teacher.json: small molecules that the student has not seen, and what the teacher finds for
# them; results/{run}/acceptance/student.json: the student on the same, one record for each geometry, scan and curve.

ACCEPTANCE = expand("results/{run}/acceptance/student.json", run=RUN) if TEACHER else []


rule run_teacher_acceptance:
    input:
        molecules=config["molecules"]["list"],
    output:
        "results/{run}/acceptance/teacher.json",
    log:
        "logs/{run}/run_teacher_acceptance.log",
    conda:
        TEACHER_ENVIRONMENT
    threads: 1
    resources:
        **TEACHER_RUN,
    params:
        code=code_of("acceptance.teacher"),
        # How labels of one's own were chosen from all molecules, nobody knows.
        settings=settings(
            {
                "acceptance": config["acceptance"],
                "teacher": config["teacher"],
                "sampling": None if config["student"]["dataset"] else config["student"]["sampling"],
            }
        ),
    shell:
        "OMP_NUM_THREADS={threads} python -m mlff_distiller acceptance-teacher --molecules {input.molecules:q}"
        " --settings {params.settings:q} --output {output:q} > {log:q} 2>&1"


rule measure_acceptance:
    input:
        student="results/{run}/student/student.safetensors",
        teacher="results/{run}/acceptance/teacher.json",
    output:
        "results/{run}/acceptance/student.json",
    log:
        "logs/{run}/measure_acceptance.log",
    conda:
        "../../envs/student.yaml"
    threads: 1
    resources:
        **MEASURED,
    params:
        code=code_of("acceptance.student"),
    shell:
        "python -m mlff_distiller acceptance --checkpoint {input.student:q} --teacher {input.teacher:q}"
        " --threads {threads} --output {output:q} > {log:q} 2>&1"


rule acceptance:
    input:
        CHECKS,
        ACCEPTANCE,
