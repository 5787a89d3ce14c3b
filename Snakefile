# How fast can the student run here, and is it still correct? See README.md; `snakemake -c4` runs all of it.

from snakemake.utils import min_version

min_version("9.20")

# For every job that it has started Snakemake wakes up once a second from then on, to see whether its limit of jobs a second
# lets another start: after a hundred jobs that takes a quarter of a core, beside jobs whose time is measured. Without the
# limit it sleeps until a job ends. Jobs of a batch system are not beside it, and a site may want the limit.
if workflow.scheduling_settings and workflow.local_exec:
    workflow.scheduling_settings.max_jobs_per_timespan = None


configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/preflight.smk"
include: "workflow/rules/distill.smk"
include: "workflow/rules/compile.smk"
include: "workflow/rules/benchmark.smk"
include: "workflow/rules/md.smk"
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
    report,
    deploy,
    compare,


rule all:
    default_target: True
    input:
        rules.report.input,


onsuccess:
    print_outcome()
