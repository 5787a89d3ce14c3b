# How fast can the student run here, and is it still correct? See README.md; `snakemake -c4` runs all of it.

from snakemake.utils import min_version

min_version("9.20")


configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/preflight.smk"
include: "workflow/rules/distill.smk"
include: "workflow/rules/rounds.smk"
include: "workflow/rules/compile.smk"
include: "workflow/rules/benchmark.smk"
include: "workflow/rules/md.smk"
include: "workflow/rules/acceptance.smk"
include: "workflow/rules/accuracy.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/deploy.smk"
include: "workflow/rules/compare.smk"


report: "workflow/report/workflow.rst"


localrules:
    all,
    preflight,
    distill,
    compile,
    benchmark,
    md,
    accuracy,
    acceptance,
    report,
    deploy,
    compare,


rule all:
    default_target: True
    input:
        rules.report.input,


onstart:
    before_the_first_job()


onsuccess:
    print_outcome()
