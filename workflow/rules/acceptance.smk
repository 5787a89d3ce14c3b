# Needs: the student, the molecule list and the teacher.
# Makes: results/{run}/acceptance/teacher.json: small molecules that the student has not seen, one's own molecules and crystals, and what the teacher
# finds for them; results/{run}/acceptance/student.json: the student on the same, one record for each geometry, scan and curve.

ACCEPTANCE = expand("results/{run}/acceptance/student.json", run=RUN) if TEACHER else []
# Structures that are compared as crystals, as the configuration names them; molecules among them are passed over.
CRYSTALS = config["acceptance"].get("crystals", {}).get("files")
if CRYSTALS is None:
    CRYSTALS = SAMPLED or (list(SYSTEMS.values()) if config["student"]["dataset"] else [])
# What a given checkpoint was trained on, before any rounds.
DATASET_CARD = [
    str(path) for path in [SHIPPED / "dataset_card.json"] if config["student"]["checkpoint"] and path.is_file()
]
# Of a given checkpoint nobody knows, and whole structures may be in any split.
WHOLE = SAMPLING_OF.get("structures", {}).get("split_by") == "structure"
LEARNED_HERE = not config["student"]["checkpoint"] and not WHOLE
CRYSTALS_SPLIT = "train" if CRYSTALS == SAMPLED and LEARNED_HERE else "unknown"
# Structures that are compared as molecules; crystals among them are passed over.
OWN_MOLECULES = config["acceptance"].get("molecules", {}).get("files")
if OWN_MOLECULES is None:
    OWN_MOLECULES = SAMPLED
OWN_SPLIT = "train" if OWN_MOLECULES == SAMPLED and LEARNED_HERE else "unknown"


rule run_teacher_acceptance:
    input:
        molecules=config["molecules"]["list"],
        always_trained=config["molecules"]["always_trained"],
        card=DATASET_CARD,
        structures=sorted({split_frame(name)[0] for name in [*CRYSTALS, *OWN_MOLECULES]}),
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
        teacher_python=python_of_teacher,
        # How labels of one's own were chosen from all molecules, nobody knows.
        settings=settings(
            {
                "acceptance": config["acceptance"],
                "teacher": config["teacher"],
                "sampling": None if config["student"]["dataset"] else config["student"]["sampling"],
            }
        ),
        card=shlex.join(["--dataset-card", *DATASET_CARD]) if DATASET_CARD else "",
        structures=" ".join(
            [
                (shlex.join(["--crystals", *CRYSTALS, "--crystals-split", CRYSTALS_SPLIT]) if CRYSTALS else ""),
                (
                    shlex.join(["--own-molecules", *OWN_MOLECULES, "--own-molecules-split", OWN_SPLIT])
                    if OWN_MOLECULES
                    else ""
                ),
                "--own-alone" if ALONE and (CRYSTALS or OWN_MOLECULES) else "",
            ]
        ),
    shell:
        "OMP_NUM_THREADS={threads} {params.teacher_python} -m mlff_distiller acceptance-teacher --molecules {input.molecules:q}"
        " --always-trained {input.always_trained:q} {params.card} --settings {params.settings:q} {params.structures} --output {output:q} > {log:q} 2>&1"


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
