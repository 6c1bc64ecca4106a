"""The report: what the evaluations say, beside the paper and the published reproduction."""

VARIANTS = list(suite.variants)
ABLATION_VARIANTS = [
    v for v in ("faster_rcnn", "samp1000_lw5.0") if v in suite.variants
]


rule report:
    input:
        plan.evaluations(VARIANTS),
        plan.runs(VARIANTS),
        plan.speed,
        sweep=rules.sweep.output if "sweep" in suite else [],
    output:
        f"{RESULTS}/report/README.md",
        f"{RESULTS}/report/provenance.json",
        report(
            f"{RESULTS}/report/index.html",
            caption="captions/page.rst",
            category="Report",
        ),
        report(
            directory(f"{RESULTS}/report/tables"),
            patterns=["{table}.csv"],
            caption="captions/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        report(
            directory(f"{RESULTS}/report/figures"),
            patterns=["{figure}.png"],
            caption="captions/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
    log:
        f"{RESULTS}/logs/report.log",
    conda:
        "../environment/conda.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        suite=plan.suite_file,
        results=lambda wildcards, output: Path(output[0]).parents[1],
        content=plan.suite_text,
    shell:
        "(python -m reports.build --suite {params.suite} --results {params.results} --out {params.results}/report"
        " && python -m experiments track {params.results}/report --suite {params.suite}) > {log} 2>&1"


rule ablation:
    input:
        plan.evaluations(ABLATION_VARIANTS),
        plan.runs(ABLATION_VARIANTS),
    output:
        f"{RESULTS}/ablation/README.md",
    log:
        f"{RESULTS}/logs/ablation.log",
    conda:
        "../environment/conda.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        suite=plan.suite_file,
        results=lambda wildcards, output: Path(output[0]).parents[1],
        content=plan.suite_text,
    shell:
        "python -m reports.build --only ablation --suite {params.suite} --results {params.results}"
        " --out {params.results}/ablation > {log} 2>&1"
