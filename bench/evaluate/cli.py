"""The commands ``fidmap evaluate ...``: they parse, call and print; what is slow to import is imported inside them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from bench.evaluate.models.command import model
from bench.output import prints_aside

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Evaluate images, detections or a model of your own."
)
app.command()(model)
Keep = Annotated[
    Path | None,
    typer.Option("--record", metavar="STORE", help="Keep the evaluation as a record, for fidmap compare."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON in place of text.")]
Names = Annotated[
    str | None, typer.Option(help="Of what is compared, with commas between  [default: from the files' names]")
]
AllPairs = Annotated[bool, typer.Option("--all-pairs", help="Compare each with each, not all with the first.")]


@app.command()
def images(
    context: typer.Context,
    real: Annotated[
        str,
        typer.Argument(help="A folder of images, .npy, .npz, .safetensors, statistics, or a data set (fashion_mnist)."),
    ],
    generated: Annotated[
        list[str],
        typer.Argument(help="The generated images, in any of these forms; several are compared with the first."),
    ],
    extractor: Annotated[
        str | None,
        typer.Option(help="A name, MODULE:OBJECT, or a file .pt or .pt2, perhaps with @RESIZE  [default: fmnist]"),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(help="Names with commas between, or all; see fidmap list metrics  [default: fd,kid,prdc]"),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 64,
    resamples: Annotated[int, typer.Option(min=0, help="Resamples for intervals; 0: no intervals, no floors.")] = 50,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of every draw.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    weights: Annotated[Path | None, typer.Option(help="The extractor's weights, where it takes a path.")] = None,
    save_stats: Annotated[Path | None, typer.Option(help="Write the statistics of REAL into this file.")] = None,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep features by the hash of the images.")] = True,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out files that cannot be read; counted.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads that read images  [default: one per core, 8 at most]")
    ] = None,
    record: Keep = None,
    as_json: AsJson = False,
    names: Names = None,
    all_pairs: AllPairs = False,
) -> None:
    """Measure generated images against real ones.

    Of several sets, it measures differences against the same real images, with intervals and a verdict in words.
    """
    import json
    import sys

    from bench.environment import check_device
    from bench.errors import UsageError
    from bench.evaluate import image_comparison
    from bench.evaluate import images as module
    from bench.evaluate.record import record_images

    check_device(device)
    if len(generated) > 1:
        for name in sorted(_given(context) & {"record", "resamples"}):
            raise UsageError(f"--{name} is for one set of generated images; {len(generated)} are compared")
        with prints_aside():
            comparison = image_comparison.compare(
                real, generated, names=names, all_pairs=all_pairs, extractor=extractor, metrics=metrics, batch=batch,
                seed=seed, device=device, weights=weights, save_stats=save_stats, cache=cache, skip_bad=skip_bad,
                workers=workers,
            )  # fmt: skip
        for line in comparison.notes:
            print(line, file=sys.stderr)
        print(json.dumps(comparison.as_dict(), indent=1) if as_json else comparison.table())
        return
    for name in sorted(_given(context) & {"names", "all_pairs"}):
        raise UsageError(f"--{name.replace('_', '-')} is for several sets of generated images; there is one")
    began = _begin(record)
    with prints_aside():
        result = module.evaluate(
            real, generated[0], extractor=extractor, metrics=metrics, batch=batch, resamples=resamples, seed=seed,
            device=device, weights=weights, save_stats=save_stats, cache=cache, skip_bad=skip_bad, workers=workers,
        )  # fmt: skip
    for line in result.notes:
        print(line, file=sys.stderr)
    if record:
        record_images(record, result, device, began)
    print(json.dumps(result.as_dict(), indent=1) if as_json else result.table())


@app.command()
def detections(
    context: typer.Context,
    ground_truth: Annotated[
        Path, typer.Argument(help="COCO JSON, a folder of VOC XML, or a folder of YOLO text files.", show_default=False)
    ],
    detections: Annotated[
        list[Path],
        typer.Argument(
            help="In such a form with scores, or .jsonl, or VOC's result files; several are compared with the first.",
            show_default=False,
        ),
    ],
    per_class: Annotated[bool, typer.Option("--per-class", help="A row per class.")] = False,
    tide: Annotated[bool, typer.Option("--tide", help="TIDE's types of error and what each costs in AP.")] = False,
    confusion: Annotated[bool, typer.Option("--confusion", help="Which class is taken for which.")] = False,
    calibration: Annotated[bool, typer.Option("--calibration", help="D-ECE and LaECE, and scores by bins.")] = False,
    as_json: AsJson = False,
    plots: Annotated[Path | None, typer.Option(help="Draw plots of all parts into this folder.")] = None,
    format: Annotated[str, typer.Option(help="auto, coco, voc or yolo.")] = "auto",
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the images of YOLO labels  [default: beside the labels of GROUND_TRUTH]"),
    ] = None,
    iou_type: Annotated[str, typer.Option(help="bbox or segm (by faster-coco-eval).")] = "bbox",
    max_detections: Annotated[
        str, typer.Option(help="Per image and class, with commas between: AR at each, AP at the last.")
    ] = "1,10,100",
    iou_thresholds: Annotated[
        str | None, typer.Option(help="With commas between, as .5,.75  [default: .5 to .95 in steps of .05]")
    ] = None,
    area_ranges: Annotated[
        str | None, typer.Option(help="In pixels, as tiny:0:256,rest:256:inf  [default: COCO's s, m, l]")
    ] = None,
    class_agnostic: Annotated[bool, typer.Option("--class-agnostic", help="Treat all boxes as one class.")] = False,
    score_threshold: Annotated[
        float | None, typer.Option(help="For --confusion and for a line of figures  [default: that of the best F1]")
    ] = None,
    resamples: Annotated[int, typer.Option(min=0, help="Resamples of images for intervals; 0: no intervals.")] = 0,
    protocol: Annotated[
        str, typer.Option(help="coco; or voc, with difficult truths left out: mAP over all points and over 11.")
    ] = "coco",
    record: Keep = None,
    names: Names = None,
    all_pairs: AllPairs = False,
) -> None:
    """Measure detections: COCO's twelve figures, and what lies behind them, or PASCAL VOC's mAP.

    Of several detectors, it measures differences on the same images, with intervals and a verdict in words.
    """
    import json
    import sys

    from bench.errors import UsageError
    from bench.evaluate import detections as module
    from bench.evaluate import detector_comparison, voc_figures
    from bench.evaluate.record import record_detections

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def progress(step: str) -> None:
        if sys.stderr.isatty():
            tell(step)

    began = _begin(record)
    if protocol not in ("coco", "voc"):
        raise UsageError(f"--protocol {protocol!r}: expected coco, voc")
    if protocol == "voc":
        if len(detections) > 1:
            raise UsageError(f"{len(detections)} detectors are compared with --protocol coco; --protocol voc takes one")
        of_voc = {"ground_truth", "detections", "per_class", "as_json", "format", "images", "protocol", "record"}
        for name in sorted(_given(context) - of_voc):
            raise UsageError(f"--{name.replace('_', '-')} goes with --protocol coco; --protocol voc has --per-class")
        voc = voc_figures.evaluate(
            ground_truth, detections[0], per_class=per_class, format=format, images=images, tell=tell, progress=progress
        )
        if record:
            record_detections(record, ground_truth, detections[0], voc, {"protocol": protocol}, began)
        print(json.dumps(voc.as_dict(), indent=1) if as_json else voc.table())
        return
    if len(detections) > 1:
        single = {"tide", "confusion", "calibration", "score_threshold", "resamples", "iou_type", "record"}
        for name in sorted(_given(context) & single):
            raise UsageError(f"--{name.replace('_', '-')} is for one detector; {len(detections)} are compared by boxes")
        comparison = detector_comparison.compare(
            ground_truth, detections, names=names, all_pairs=all_pairs, per_class=per_class, plots=plots,
            format=format, images=images, max_detections=max_detections, iou_thresholds=iou_thresholds,
            area_ranges=area_ranges, class_agnostic=class_agnostic, tell=tell, progress=progress,
        )  # fmt: skip
        print(json.dumps(comparison.as_dict(), indent=1) if as_json else comparison.table())
        return
    for name in sorted(_given(context) & {"names", "all_pairs"}):
        raise UsageError(f"--{name.replace('_', '-')} is for several detectors; there is one")
    result = module.evaluate(
        ground_truth, detections[0], per_class=per_class, tide=tide, confusion=confusion, calibration=calibration,
        plots=plots, format=format, images=images, iou_type=iou_type, max_detections=max_detections,
        iou_thresholds=iou_thresholds, area_ranges=area_ranges, class_agnostic=class_agnostic,
        score_threshold=score_threshold, resamples=resamples, tell=tell, progress=progress,
    )  # fmt: skip
    if record:
        options = {
            "protocol": protocol, "iou_type": iou_type, "max_detections": max_detections,
            "iou_thresholds": iou_thresholds, "area_ranges": area_ranges, "class_agnostic": class_agnostic,
        }  # fmt: skip
        record_detections(record, ground_truth, detections[0], result, options, began)
    print(json.dumps(result.as_dict(), indent=1) if as_json else result.table())


def _begin(record: Path | None) -> datetime:
    """The time, after a check that the folder of records, if there is one, can be one."""
    from bench.records.store import Store

    if record:
        Store(record)
    return datetime.now(UTC)


def _given(context: typer.Context) -> set[str]:
    """The names of the parameters that the command line gives."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
