"""The report: what the evaluations say, beside the paper and the published reproduction.

The targets ask for the results themselves, too: to Snakemake, a missing result is none where a report that was made
without it is newer than all that is there, and nothing recorded says what it was made of.
"""


localrules:
    build_ablation,
    build_report,


rule build_report:
    input:
        jobs.evaluations(suite.variants),
        jobs.runs(suite.variants),
        jobs.timed,
        sweep=rules.sweep.output if jobs.search else [],
    output:
        layout.report.readme,
        layout.report.provenance,
        report(
            layout.report.page,
            caption="../captions/page.rst",
            category="Report",
        ),
        report(
            directory(layout.report.tables),
            patterns=["{table}.csv"],
            caption="../captions/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        report(
            directory(layout.report.figures),
            patterns=["{figure}.png"],
            caption="../captions/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
    log:
        layout.log("report"),
    conda:
        "../../environment/conda.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        suite=jobs.suite_file,
        folder=lambda wildcards, output: Path(output[0]).parent,
        results=lambda wildcards, output: Path(output[0]).parents[1],
        content=suite.text,
    shell:
        "(python -m reports.build --suite {params.suite:q} --results {params.results:q} --out {params.folder:q}"
        " && python -m experiments track {params.folder:q} --suite {params.suite:q}) > {log:q} 2>&1"


rule build_ablation:
    input:
        # functions: an error for a suite that lacks what the ablation compares, where this is asked for
        lambda wildcards: jobs.evaluations(jobs.ablation_variants),
        lambda wildcards: jobs.runs(jobs.ablation_variants),
    output:
        layout.ablation.readme,
    log:
        layout.log("ablation"),
    conda:
        "../../environment/conda.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        suite=jobs.suite_file,
        folder=lambda wildcards, output: Path(output[0]).parent,
        results=lambda wildcards, output: Path(output[0]).parents[1],
        content=suite.text,
    shell:
        "(python -m reports.build --only ablation --suite {params.suite:q} --results {params.results:q}"
        " --out {params.folder:q}"
        " && python -m experiments track {params.folder:q} --suite {params.suite:q}) > {log:q} 2>&1"


rule report:
    input:
        rules.build_report.input,
        rules.build_report.output,
    localrule: True


rule ablation:
    input:
        rules.build_ablation.input,
        rules.build_ablation.output,
    localrule: True
