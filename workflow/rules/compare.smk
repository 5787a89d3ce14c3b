# Needs: the merged results of finished runs (compare.runs); those of this run are made if it is named.
# Makes: results/{run}/compare/COMPARISON.{md,html}: the runs compared, with regressions marked.


rule compare_runs:
    input:
        results=compared_results,
        templates=expand("workflow/mlff_distiller/report/templates/{name}", name=["COMPARISON.md.j2", "page.html.j2"]),
    output:
        html="results/{run}/compare/COMPARISON.html",
        markdown="results/{run}/compare/COMPARISON.md",
    log:
        "logs/{run}/compare_runs.log",
    conda:
        "../../envs/report.yaml"
    resources:
        **SMALL,
    params:
        code=code_of("report.compare"),
        folder=subpath(output.html, parent=True),
    shell:
        "python -m mlff_distiller compare {input.results:q} --output-dir {params.folder:q} 2>&1 | tee {log:q}"


rule compare:
    input:
        expand("results/{run}/compare/COMPARISON.{form}", run=RUN, form=["html", "md"]),
