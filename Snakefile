"""images -> checkpoint -> detections -> table cell; the suite's YAML says which."""

import re
import shlex
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from suite.errors import SuiteError
from suite.reader import laid_over, read_yaml
from suite.suite import check_suite
from suite.treatments import HEADS
from workflow.jobs import Jobs

min_version("9.0")
DEFAULT = "experiments/shapes.yaml"


# `configfile:` merges deeply: a suite given by --configfile must not inherit keys of the default one
if not workflow.config_settings.configfiles:

    configfile: DEFAULT


try:
    # Snakemake has read them, too, but of duplicate keys it takes the last
    files = workflow.config_settings.configfiles or [DEFAULT]
    for file in files:
        read_yaml(Path(file))
    jobs = Jobs(check_suite(laid_over(config) if len(files) > 1 else config))
except SuiteError as error:
    raise WorkflowError(str(error)) from None
suite, layout = jobs.suite, jobs.layout
# --directory may lead anywhere; names and titles are UTF-8 whatever the locale
shell.prefix(f"export PYTHONPATH={shlex.quote(str(workflow.basedir))} PYTHONUTF8=1; ")


include: "workflow/rules/data.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/speed.smk"
include: "workflow/rules/sweep.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/pooling.smk"
include: "workflow/rules/anydetector.smk"


rule all:
    default_target: True
    input:
        rules.report.input,
    localrule: True
