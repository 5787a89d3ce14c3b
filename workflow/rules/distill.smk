# Needs: preflight; the molecule lists and the teacher, or labels and a checkpoint named in the configuration.
# Makes: results/{run}/dataset/: labels.h5 and its card; results/{run}/student/student.safetensors, or the student that rounds
# begin with (rounds.smk); times of the teacher. With `--set-scatter samples=N labels=N`, by N jobs each and one that gathers.

SAMPLING = {"sampling": config["student"]["sampling"], "teacher": config["teacher"]}
LABELING = {"teacher": config["teacher"], "limits": config["student"]["limits"]}


if config["student"]["dataset"]:

    rule import_dataset:
        input:
            dataset=config["student"]["dataset"],
        output:
            dataset="results/{run}/dataset/labels.h5",
            card="results/{run}/dataset/labels.json",
        log:
            "logs/{run}/import_dataset.log",
        # Labels in wrong units must stop the run before any other work.
        priority: 100
        conda:
            "../../envs/student.yaml"
        resources:
            **SMALL,
        params:
            code=code_of("data.import_data"),
            settings=settings(config["student"]["own_data"]),
            # With a given checkpoint the labels are not used for training, unless in rounds.
            held_out="--held-out" if config["student"]["checkpoint"] and not ROUNDS else "",
        shell:
            "python -m mlff_distiller import-data --dataset {input.dataset:q} --settings {params.settings:q}"
            " {params.held_out} --card {output.card:q} --output {output.dataset:q} 2>&1 | tee {log:q}"

else:

    rule sample_share:
        input:
            molecules=config["molecules"]["list"],
            always_trained=config["molecules"]["always_trained"],
            structures=SAMPLED_FILES,
        output:
            temp("results/{run}/dataset/configurations.h5.shares/{scatteritem}.npz"),
        log:
            "logs/{run}/sample_share/{scatteritem}.log",
        priority: ALL_CORES_FIRST
        conda:
            TEACHER_ENVIRONMENT
        threads: workflow.cores
        resources:
            **SHARE,
        params:
            code=code_of("data.sampling"),
            teacher_python=python_of_teacher,
            settings=settings(SAMPLING),
            benchmark=config["molecules"]["folder"],
            dataset="results/{run}/dataset/configurations.h5",
        shell:
            UNLESS_REFUSED
            + "{params.teacher_python} -m mlff_distiller sample --molecules {input.molecules:q} --benchmark {params.benchmark:q}"
            " --always-trained {input.always_trained:q} --settings {params.settings:q} --cores {threads}"
            " --share {wildcards.scatteritem:q} --output {params.dataset:q} 2>&1 | tee {log:q}"

    rule sample_configurations:
        input:
            molecules=config["molecules"]["list"],
            always_trained=config["molecules"]["always_trained"],
            structures=SAMPLED_FILES,
            shares=shares_of("samples", "results/{run}/dataset/configurations.h5"),
        output:
            configurations="results/{run}/dataset/configurations.h5",
            card="results/{run}/dataset/sampling.json",
        log:
            "logs/{run}/sample_configurations.log",
        priority: ALL_CORES_FIRST
        conda:
            TEACHER_ENVIRONMENT
        threads: all_cores_unless_gathered
        resources:
            **LABELS,
        params:
            code=code_of("data.sampling"),
            teacher_python=python_of_teacher,
            settings=settings(SAMPLING),
            benchmark=config["molecules"]["folder"],
            gathered=gathered_option,
            number=number_of_shares,
            number_file=number_file("results/{run}/dataset/configurations.h5"),
        shell:
            UNLESS_REFUSED
            + "{params.teacher_python} -m mlff_distiller sample --molecules {input.molecules:q} --benchmark {params.benchmark:q}"
            " --always-trained {input.always_trained:q} --settings {params.settings:q} --cores {threads} {params.gathered}"
            " --card {output.card:q} --output {output.configurations:q} 2>&1 | tee {log:q};"
            " echo {params.number} > {params.number_file:q}"

    rule label_configurations:
        input:
            configurations="results/{run}/dataset/configurations.h5",
            card="results/{run}/dataset/sampling.json",
            shares=shares_of("labels", "results/{run}/dataset/labels.h5"),
        output:
            dataset="results/{run}/dataset/labels.h5",
            card="results/{run}/dataset/labels.json",
        log:
            "logs/{run}/label_configurations.log",
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
            number_file=number_file("results/{run}/dataset/labels.h5"),
        shell:
            UNLESS_REFUSED
            + "{params.teacher_python} -m mlff_distiller label --configurations {input.configurations:q} --sample-card {input.card:q}"
            " --settings {params.settings:q} --cores {threads} {params.gathered} --card {output.card:q}"
            " --output {output.dataset:q} 2>&1 | tee {log:q};"
            " echo {params.number} > {params.number_file:q}"


# Of the dataset, and of what the student visits in rounds.
rule label_share:
    input:
        configurations="results/{run}/{place}/configurations.h5",
    output:
        temp("results/{run}/{place}/labels.h5.shares/{scatteritem}.npz"),
    log:
        "logs/{run}/{place}/label_share/{scatteritem}.log",
    priority: ALL_CORES_FIRST
    conda:
        TEACHER_ENVIRONMENT
    threads: workflow.cores
    resources:
        **SHARE,
    params:
        code=code_of("data.labeling"),
        teacher_python=python_of_teacher,
        settings=settings({"teacher": config["teacher"]}),
        dataset="results/{run}/{place}/labels.h5",
    shell:
        UNLESS_REFUSED
        + "{params.teacher_python} -m mlff_distiller label --configurations {input.configurations:q} --settings {params.settings:q}"
        " --cores {threads} --share {wildcards.scatteritem:q} --output {params.dataset:q} 2>&1 | tee {log:q}"


if config["student"]["checkpoint"]:

    rule copy_student:
        input:
            checkpoint=config["student"]["checkpoint"],
        output:
            f"{FIRST}/student.safetensors",
        log:
            "logs/{run}/copy_student.log",
        # A job of a batch system would cost more than the copy.
        localrule: True
        conda:
            "../../envs/student.yaml"
        resources:
            **SMALL,
        shell:
            "cp {input.checkpoint:q} {output:q} 2> {log:q}"

else:

    rule train_student:
        input:
            machine="results/{run}/preflight/machine.json",
            dataset="results/{run}/dataset/labels.h5",
        output:
            student=f"{FIRST}/student.safetensors",
            record=f"{FIRST}/training.json",
        log:
            "logs/{run}/train_student.log",
        conda:
            "../../envs/student.yaml"
        threads: workflow.cores
        resources:
            **training(config["student"]["training"]),
        params:
            code=code_of("training.train"),
            settings=settings(config["student"]["training"]),
            # Not an output: Snakemake deletes outputs of an interrupted job, but the training resumes from this folder.
            folder=subpath(output.student, parent=True),
        shell:
            "python -m mlff_distiller train --dataset {input.dataset:q} --settings {params.settings:q}"
            " --checkpoint-dir {params.folder:q}/training_state --record {output.record:q} --output {output.student:q} 2>&1 | tee {log:q}"


rule time_teacher:
    input:
        molecules=files_of(SYSTEMS),
    output:
        "results/{run}/benchmark/teacher.json",
    log:
        "logs/{run}/time_teacher.log",
    conda:
        TEACHER_ENVIRONMENT
    threads: workflow.cores
    resources:
        **SMALL,
    params:
        code=code_of("benchmark.teacher"),
        teacher_python=python_of_teacher,
        settings=settings({"teacher": config["teacher"]}),
        systems=list(SYSTEMS.values()),
        teacher_threads=config["benchmark"]["threads"],
    shell:
        "{params.teacher_python} -m mlff_distiller time-teacher --systems {params.systems:q}"
        " --settings {params.settings:q} --threads {params.teacher_threads:q} --output {output:q} > {log:q} 2>&1"


rule distill:
    input:
        CHECKS,
        gains,
        expand("results/{run}/student/{what}", run=RUN, what=["student.safetensors", "accuracy.json"]),
