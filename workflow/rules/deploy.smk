# Needs: the merged results, the compiled variants, the student.
# Makes: results/{run}/deploy/{kind of work}/: the winner as a bundle (bundle.json, weights, artifact, example), or a
# record with the reason why there is none.


rule deploy_winners:
    input:
        results="results/{run}/report/phase3_results.json",
        variants=expand("results/{{run}}/variants/{variant}/variant.json", variant=config["variants"]),
        student="results/{run}/student/student.safetensors",
        torch_cluster="results/{run}/preflight/torch_cluster.json",
        molecules=files_of(SYSTEMS),
    output:
        expand("results/{{run}}/deploy/{work}/bundle.json", work=WORK),
    log:
        "logs/{run}/deploy_winners.log",
    conda:
        "../../envs/student.yaml"
    resources:
        # Each bundle tries the examples of all engines.
        **(MEASURED | {"runtime": minutes(90)}),
    params:
        code=code_of("deploy.deploy"),
        systems=list(SYSTEMS.values()),
        torch_threads=config["benchmark"]["threads"],
        engines=config["deploy"]["engines"],
        engines_python=option("engines-python", ENGINES_PYTHON if INSTALLED else None),
    shell:
        "python -m mlff_distiller deploy --results {input.results:q} --variants results/{wildcards.run:q}/variants"
        " --checkpoint {input.student:q} --torch-cluster {input.torch_cluster:q} --systems {params.systems:q}"
        " --threads {params.torch_threads:q} --engines {params.engines:q} {params.engines_python}"
        " --output-dir results/{wildcards.run:q}/deploy > {log:q} 2>&1"


rule deploy:
    input:
        expand("results/{run}/deploy/{work}/bundle.json", run=RUN, work=WORK),
