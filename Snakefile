"""images -> checkpoint -> detections -> table cell; the suite's YAML says which."""

import shlex

from snakemake.utils import min_version

from suite.suite import check_suite

min_version("9.0")


# `configfile:` merges deeply: a suite given by --configfile must not inherit keys of the default one
if not workflow.config_settings.configfiles:

    configfile: "experiments/shapes.yaml"


suite = check_suite(config)
shell.prefix(
    f"export PYTHONPATH={shlex.quote(str(workflow.basedir))}; "
)  # --directory may lead anywhere
config.update(suite)


localrules:
    all,
    ablation,
    report,


include: "experiments/experiments.smk"
include: "sweeps/sweeps.smk"
include: "reports/reports.smk"


rule all:
    default_target: True
    input:
        rules.report.output,
