# Needs: the dataset, and the student that the first round begins with (distill.smk); nothing where student.rounds.number is 0.
# Makes: results/{run}/rounds/{round}/: configurations.h5 that the student so far visits, exploring.json about them, labels.h5,
# student.safetensors trained on with all labels, gain.json: its errors before and after; and, of the last round,
# results/{run}/student/student.safetensors.

ROUND_TRAINING = config["student"]["training"] | config["student"]["rounds"].get("training", {})

if ROUNDS:

    rule explore:
        input:
            student=student_before,
            dataset="results/{run}/dataset/labels.h5",
        output:
            configurations="results/{run}/rounds/{round}/configurations.h5",
            card="results/{run}/rounds/{round}/exploring.json",
        log:
            "logs/{run}/rounds/{round}/explore.log",
        priority: ALL_CORES_FIRST
        conda:
            "../../envs/student.yaml"
        threads: workflow.cores
        resources:
            **EXPLORE,
        params:
            code=code_of("md.explore"),
            settings=settings(config["student"]["rounds"].get("explore", {})),
        shell:
            "python -m mlff_distiller explore --checkpoint {input.student:q} --dataset {input.dataset:q}"
            " --settings {params.settings:q} --round {wildcards.round:q} --cores {threads} --card {output.card:q}"
            " --output {output.configurations:q} 2>&1 | tee {log:q}"

    rule label_round:
        input:
            configurations="results/{run}/rounds/{round}/configurations.h5",
            shares=shares_of("labels", "results/{run}/rounds/{round}/labels.h5"),
        output:
            dataset="results/{run}/rounds/{round}/labels.h5",
            card="results/{run}/rounds/{round}/labels.json",
        log:
            "logs/{run}/rounds/{round}/label_round.log",
        priority: ALL_CORES_FIRST
        conda:
            TEACHER_ENVIRONMENT
        threads: all_cores_unless_gathered
        resources:
            **LABELS,
        params:
            code=code_of("data.labeling"),
            teacher_python=python_of_teacher,
            settings=settings(LABELING),
            gathered=gathered_option,
            number=number_of_shares,
            number_file=number_file("results/{run}/rounds/{round}/labels.h5"),
        shell:
            UNLESS_REFUSED
            + "{params.teacher_python} -m mlff_distiller label --configurations {input.configurations:q} --settings {params.settings:q}"
            " --cores {threads} {params.gathered} --card {output.card:q} --output {output.dataset:q} 2>&1 | tee {log:q};"
            " echo {params.number} > {params.number_file:q}"

    if config["student"]["dataset"]:

        # Labels of one's own say nothing of the teacher that made them.
        rule check_same_teacher:
            input:
                dataset="results/{run}/dataset/labels.h5",
            output:
                "results/{run}/dataset/same_teacher.json",
            log:
                "logs/{run}/check_same_teacher.log",
            # Labels of another teacher must stop the run before any other work.
            priority: 100
            conda:
                TEACHER_ENVIRONMENT
            resources:
                **SMALL,
            params:
                code=code_of("data.same_teacher"),
                teacher_python=python_of_teacher,
                settings=settings({"teacher": config["teacher"]}),
            shell:
                "{params.teacher_python} -m mlff_distiller same-teacher --dataset {input.dataset:q} --settings {params.settings:q}"
                " --output {output:q} 2>&1 | tee {log:q}"

    rule merge_round:
        input:
            datasets=labels_until,
            same_teacher="results/{run}/dataset/same_teacher.json" if config["student"]["dataset"] else [],
        output:
            # All labels once more: hundreds of megabytes, made again in seconds.
            dataset=temp("results/{run}/rounds/{round}/dataset.h5"),
            card="results/{run}/rounds/{round}/dataset.json",
        log:
            "logs/{run}/rounds/{round}/merge_round.log",
        conda:
            "../../envs/student.yaml"
        resources:
            **SMALL | {"mem_mb": lambda wildcards, input, attempt: (2000 + 10 * int(input.size_mb)) * attempt},
        params:
            code=code_of("data.merge"),
            given=lambda wildcards, input: option("same-teacher", input.same_teacher),
        shell:
            "python -m mlff_distiller merge-data --datasets {input.datasets:q} {params.given} --card {output.card:q}"
            " --output {output.dataset:q} > {log:q} 2>&1"

    rule train_round:
        input:
            machine="results/{run}/preflight/machine.json",
            before=student_before,
            dataset="results/{run}/rounds/{round}/dataset.h5",
        output:
            student="results/{run}/rounds/{round}/student.safetensors",
            record="results/{run}/rounds/{round}/training.json",
        log:
            "logs/{run}/rounds/{round}/train_round.log",
        conda:
            "../../envs/student.yaml"
        threads: workflow.cores
        resources:
            **training(ROUND_TRAINING),
        params:
            code=code_of("training.train"),
            settings=settings(ROUND_TRAINING),
            # Not an output: Snakemake deletes outputs of an interrupted job, but the training resumes from this folder.
            folder=subpath(output.student, parent=True),
        shell:
            "python -m mlff_distiller train --dataset {input.dataset:q} --settings {params.settings:q}"
            " --start-from {input.before:q} --checkpoint-dir {params.folder:q}/training_state --record {output.record:q}"
            " --output {output.student:q} 2>&1 | tee {log:q}"

    rule measure_gain:
        input:
            before=student_before,
            after="results/{run}/rounds/{round}/student.safetensors",
            labels="results/{run}/rounds/{round}/labels.h5",
            older="results/{run}/dataset/labels.h5",
            card="results/{run}/rounds/{round}/exploring.json",
        output:
            "results/{run}/rounds/{round}/gain.json",
        log:
            "logs/{run}/rounds/{round}/measure_gain.log",
        conda:
            "../../envs/student.yaml"
        resources:
            **MEASURED,
        params:
            code=code_of("training.gain"),
        shell:
            "python -m mlff_distiller round-gain --before {input.before:q} --after {input.after:q} --dataset {input.labels:q}"
            " --older {input.older:q} --exploring {input.card:q} --output {output:q} 2>&1 | tee {log:q}"

    # The next round, if another follows, is planned when this has been decided.
    checkpoint decide_round:
        input:
            gain="results/{run}/rounds/{round}/gain.json",
            labels=cards_until,
            begun="results/{run}/preflight/machine.json",
            before=records_before,
        output:
            "results/{run}/rounds/{round}/enough.json",
        log:
            "logs/{run}/rounds/{round}/decide_round.log",
        # A job of a batch system would cost more than reading some records.
        localrule: True
        conda:
            "../../envs/student.yaml"
        resources:
            **SMALL,
        params:
            code=code_of("training.enough"),
            settings=settings(ROUND_LIMITS),
            next_labels=ExploreSettings.from_mapping(config["student"]["rounds"].get("explore", {})).labels,
        shell:
            "python -m mlff_distiller rounds-enough --gain {input.gain:q} --labels {input.labels:q} --begun {input.begun:q}"
            " --before {input.before:q} --next-labels {params.next_labels} --settings {params.settings:q}"
            " --output {output:q} 2>&1 | tee {log:q}"

    rule take_last_student:
        input:
            student=lambda wildcards: f"results/{wildcards.run}/rounds/{last_round()}/student.safetensors",
            record=lambda wildcards: f"results/{wildcards.run}/rounds/{last_round()}/training.json",
        output:
            student="results/{run}/student/student.safetensors",
            record="results/{run}/student/training.json",
        log:
            "logs/{run}/take_last_student.log",
        # A job of a batch system would cost more than the copy.
        localrule: True
        conda:
            "../../envs/student.yaml"
        resources:
            **SMALL,
        shell:
            "cp {input.student:q} {output.student:q} 2> {log:q}; cp {input.record:q} {output.record:q} 2>> {log:q}"
