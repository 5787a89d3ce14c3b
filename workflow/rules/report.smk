# Needs: the records of every other stage.
# Makes: results/{run}/report/: phase3_results.{json,csv}, figures, PHASE3_REPORT and PHASE3_WEEK1, each as .md, .html and .pdf.

FIGURES = config["report"]["figures"]
DOCUMENTS = ["PHASE3_REPORT", "PHASE3_WEEK1"]


rule collect_results:
    input:
        rules.preflight.input,
        rules.compile.input,
        rules.benchmark.input,
        rules.md.input,
        ACCURACY,
        ACCEPTANCE,
        TRAINING,
        gains,
        student="results/{run}/student/student.safetensors",
    output:
        json="results/{run}/report/phase3_results.json",
        csv=report("results/{run}/report/phase3_results.csv", caption="../report/results_table.rst", category="Tables"),
        samples="results/{run}/report/phase3_samples.json.gz",
    log:
        "logs/{run}/collect_results.log",
    conda:
        "../../envs/report.yaml"
    resources:
        **SMALL,
    params:
        code=code_of("records.collect"),
        records=lambda wildcards, input: [path for path in input if path.endswith(".json")],
    shell:
        "python -m mlff_distiller collect {params.records:q} --checkpoint {input.student:q}"
        " --output-json {output.json:q} --output-csv {output.csv:q} --output-samples {output.samples:q} > {log:q} 2>&1"


rule plot_figure:
    input:
        results="results/{run}/report/phase3_results.json",
        claims=lambda wildcards: config["claims"] or [] if wildcards.figure.startswith("ladder") else [],
    output:
        png=report(
            "results/{run}/report/figures/{figure}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        svg="results/{run}/report/figures/{figure}.svg",
    log:
        "logs/{run}/plot_figure/{figure}.log",
    conda:
        "../../envs/report.yaml"
    resources:
        **SMALL,
    params:
        code=code_of("report.figures.draw"),
        claims=lambda wildcards, input: option("claims", input.claims),
    shell:
        "python -m mlff_distiller figure --name {wildcards.figure:q} --results {input.results:q} {params.claims}"
        " --output {output.png:q} {output.svg:q} > {log:q} 2>&1"


rule render_report:
    input:
        results="results/{run}/report/phase3_results.json",
        figures=expand("results/{{run}}/report/figures/{figure}.{form}", figure=FIGURES, form=["png", "svg"]),
        bundles=expand("results/{{run}}/deploy/{work}/bundle.json", work=WORK),
        claims=config["claims"] or [],
        templates=expand(
            "workflow/mlff_distiller/report/templates/{name}",
            name=[
                *(f"{name}.md.j2" for name in DOCUMENTS),
                "md_checks.md.j2",
                "engines.md.j2",
                "acceptance.md.j2",
                "rounds.md.j2",
                "stress.md.j2",
                "page.html.j2",
            ],
        ),
    output:
        html=report("results/{run}/report/PHASE3_REPORT.html", caption="../report/report.rst", category="Report"),
        markdown="results/{run}/report/PHASE3_REPORT.md",
        settings="results/{run}/report/settings.json",
        week_1=report("results/{run}/report/PHASE3_WEEK1.html", caption="../report/week_1.rst", category="Report"),
        week_1_markdown="results/{run}/report/PHASE3_WEEK1.md",
    log:
        "logs/{run}/render_report.log",
    conda:
        "../../envs/report.yaml"
    resources:
        **SMALL,
    params:
        code=code_of("report.write"),
        settings=settings(
            {
                "run": RUN,
                "claims": config["claims"],
                "figures": FIGURES,
                "gates": config["gates"],
                "torch": {"version": config["torch"]["version"]},
            }
        ),
        folder=subpath(output.html, parent=True),
    shell:
        "python -m mlff_distiller report --results {input.results:q} --settings {params.settings:q}"
        " --bundles {input.bundles:q} --figures {params.folder:q}/figures --output-dir {params.folder:q} > {log:q} 2>&1"


rule print_reports:
    input:
        markdown=expand("results/{{run}}/report/{name}.md", name=DOCUMENTS),
        figures=expand("results/{{run}}/report/figures/{figure}.png", figure=FIGURES),
    output:
        expand("results/{{run}}/report/{name}.pdf", name=DOCUMENTS),
    log:
        "logs/{run}/print_reports.log",
    conda:
        "../../envs/report.yaml"
    resources:
        **SMALL,
    params:
        code=code_of("report.pdf"),
    shell:
        "python -m mlff_distiller pdf {input.markdown:q} > {log:q} 2>&1"


rule report:
    input:
        expand("results/{run}/report/{name}.{form}", run=RUN, name=DOCUMENTS, form=["md", "html", "pdf"]),
        expand("results/{run}/report/phase3_results.{form}", run=RUN, form=["json", "csv"]),
