"""`pcdm calibrate`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from pcdm_core.cli.console import (
    DEFAULT_DEVICE,
    DeviceOption,
    JsonOption,
    LimitOption,
    errors,
    print_json,
    progress,
    stdout,
)
from pcdm_core.cli.fitting import ImageSet, Split, findings_of, fitted_calibration, found_blocks
from pcdm_core.data import open_images, require_apart
from pcdm_core.detection import (
    DETECTORS,
    Calibration,
    Detector,
    EnsembleDetector,
    detector_class,
    detector_named,
)
from pcdm_core.files import write_atomically
from pcdm_core.model import pick_device
from pcdm_core.report import MeasuredSet, figure_rows, measurements, rate_rows, sentence_on_batches
from pcdm_core.scoring import (
    CALIBRATION_FILE,
    FIDELITIES,
    CascadeScorer,
    Findings,
    calibration_file,
    named_detector,
    with_activations,
)

__all__ = ["calibrate"]

_INTERVALS = "in brackets: 95 % bootstrap intervals over images"
_SPECIMENS = 8
_DETECTOR, _ALPHA, _FAST = "alignment_neighbours", 0.05, FIDELITIES["fast"]
_MEMBERS = ", ".join(EnsembleDetector().members)


def calibrate(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    fit: Annotated[
        str | None,
        typer.Option(
            help=f"Make {CALIBRATION_FILE} anew from these images: half fit the detector, half calibrate it, "
            "unless --calibration-set names others."
        ),
    ] = None,
    calibration_set: Annotated[
        str | None,
        typer.Option(help="With --fit: images that calibrate it, unseen by cascade and fit; all of --fit fit it."),
    ] = None,
    in_distribution: Annotated[str | None, typer.Option("--id", help="Held-out images like those trained on.")] = None,
    ood: Annotated[list[str] | None, typer.Option(help="Images unlike those trained on; may be given again.")] = None,
    limit: LimitOption = None,
    detector: Annotated[
        str | None,
        typer.Option(help=f"With --fit: {', '.join(DETECTORS)}; {_DETECTOR} by default. Else one that the model has."),
    ] = None,
    further: Annotated[
        bool, typer.Option(help="With --fit: a detector that judges where it is asked for, beside the default.")
    ] = False,
    member: Annotated[
        list[str] | None,
        typer.Option(help=f"Of --detector ensemble, again for each: any other detector; {_MEMBERS} by default."),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(help="Another detector, fitted on the same images, to measure beside; may be given again."),
    ] = None,
    nodes: Annotated[
        int | None,
        typer.Option(min=1, help=f"Noise levels of each scale, with --fit; {_FAST.nodes} by default."),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help=f"Wanted false-positive rate, with --fit; {_ALPHA} by default."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps scores: a run that was stopped goes on where it was.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="HTML file for curves, tables and pictures of --id and --ood.")
    ] = None,
    device: DeviceOption = DEFAULT_DEVICE,
    json: JsonOption = False,
) -> None:
    """Fit and calibrate the detector (--fit), and measure how well it tells sets apart (--id against --ood)."""
    with errors():
        of_the_fit = {
            "--calibration-set": calibration_set,
            "--further": further or None,
            "--member": member,
            "--nodes": nodes,
            "--alpha": alpha,
        }
        given = [name for name, value in of_the_fit.items() if value is not None]
        if fit is None and given:
            raise ValueError(f"{', '.join(given)}: only with --fit; else the settings of the calibration hold")
        if calibration_set is not None and calibration_set == fit:
            raise ValueError("--calibration-set: must be other images than --fit, whose scores the fit has made low")
        if compare and (fit is None or in_distribution is None):
            raise ValueError("--compare: others are fitted on --fit and measured on --id and --ood, give these")
        if (in_distribution is None) != (not ood):
            raise ValueError("--id and --ood are measured against each other: give both")
        sets = [] if in_distribution is None else [in_distribution, *(ood or [])]
        if report is not None and not sets:
            raise ValueError("--report: it tells of --id and --ood, give both")
        if report is not None and not report.parent.is_dir():
            raise FileNotFoundError(f"{report}: no such folder to write to")
        if fit is None and not sets:
            raise ValueError("nothing to do: give --fit, or --id and --ood")
        chosen = _DETECTOR if detector is None else detector
        if member and chosen != "ensemble":
            raise ValueError("--member: only --detector ensemble has members")
        parameters: dict[str, Any] = {"members": tuple(member)} if member else {}
        for name in (chosen, *(compare or ())):
            detector_class(name)  # an unknown one is refused before the images are read
        # All are opened first: a mistyped path is told before the others have taken their time.
        of_fit = None if fit is None else ImageSet(fit, open_images(fit))
        calibrating = None if calibration_set is None else ImageSet(calibration_set, open_images(calibration_set))
        opened = [ImageSet(name, open_images(name, limit=limit)) for name in sets]
        evaluator = scorer = CascadeScorer.from_pretrained(model, device=pick_device(device), calibrated=of_fit is None)
        if of_fit is None and detector is not None:
            evaluator = scorer = named_detector(scorer.detectors, detector, model=scorer.model_name)
        evaluated, others = scorer.fidelity, dict[str, Detector]()
        if of_fit is not None:
            # Before the images are scored: what would leave a model that cannot be loaded.
            file = _file(model, scorer, chosen, further=further)
            fast = _FAST if nodes is None else _FAST.model_copy(update={"nodes": nodes})
            own = detector_class(chosen)(**parameters)
            fidelity = with_activations(fast, own)
            evaluated = with_activations(fast, own, *(detector_class(name)() for name in compare or []))
            layout = evaluator.layout(evaluated)
            # All are made first: what is no detector is refused before the images are scored.
            wanted = detector_named(chosen, layout, alpha=_ALPHA if alpha is None else alpha, **parameters)
            others = {name: detector_named(name, layout) for name in compare or []}
            names, found = findings_of(evaluator, of_fit, evaluated, cache)
            split, data = Split.halves(found), {"data": of_fit.name}
            if calibrating is not None:
                calibrating_names, rest = findings_of(evaluator, calibrating, evaluated, cache)
                require_apart({of_fit.name: names, calibrating.name: calibrating_names})
                split, data = Split(found, rest), {**data, "calibration_set": calibrating.name}
            calibration = fitted_calibration(split, data, scorer.identity(fidelity, chosen), wanted)
            file.parent.mkdir(exist_ok=True)
            calibration.save(file)
            for other in others.values():
                other.fit(split.fit.seen_by(other))
            # The very file that is used from now on.
            scorer = scorer.judged_by(Calibration.load(file))
        if scorer.calibration is None:
            raise ValueError(f"{model} has no {CALIBRATION_FILE}: make one with --fit DATA")
        document: dict[str, Any] = {
            "model": scorer.model_name,
            "digest": scorer.digest,
            "detector": scorer.calibration.identity.detector,
            "alpha": scorer.alpha,
            "fidelity": scorer.fidelity.settings(),
        }
        if opened:
            measured = [
                _measured(scorer.calibration, one, found_blocks(evaluator, one, evaluated, cache), others)
                for one in opened
            ]
            with progress("comparing sets", len(measured) - 1) as update:
                document |= measurements(scorer.calibration, measured[0], measured[1:], progress=update)
            if report is not None:
                _write_report(report, document, scorer, list(zip(opened, measured, strict=True)))
        if json:
            print_json(document)
        elif "sets" in document:
            stdout.print(*_tables(document), sep="\n")
        else:
            stdout.print(f"wrote {file}")


def _file(model: Path, scorer: CascadeScorer, detector: str, *, further: bool) -> Path:
    """Where the calibration of a detector goes.

    Raises:
        ValueError: The folder has that detector already in its other place, or no default that fits the weights.
    """
    default, own = calibration_file(model), calibration_file(model, detector)
    if not further:
        if own.exists():
            raise ValueError(f"{own} is of the detector {detector} already: remove it, or make it anew with --further")
        return default
    if not default.exists():
        raise ValueError(f"--further: {default} is missing, make it first")
    if scorer.judged_by(Calibration.load(default)).detector == detector:
        raise ValueError(f"--further: {default} is of the detector {detector} already")
    return own


def _measured(
    calibration: Calibration,
    images: ImageSet,
    blocks: Iterable[tuple[list[str], Findings]],
    others: Mapping[str, Detector],
) -> MeasuredSet:
    """Judges block by block: of an image its name and a few figures are kept, whatever its findings are."""

    def of_block(names: list[str], found: Findings) -> MeasuredSet:
        scores = calibration.scores(found.seen_by(calibration.detector))
        compared = {name: -other.score_samples(found.seen_by(other)) for name, other in others.items()}
        p_values = calibration.p_values(scores)
        return MeasuredSet(images.name, names, scores, p_values, found.bits_per_dim, found.terms, compared)

    return MeasuredSet.join([of_block(names, found) for names, found in blocks])


def _write_report(
    report: Path, document: dict[str, Any], scorer: CascadeScorer, sets: list[tuple[ImageSet, MeasuredSet]]
) -> None:
    # Not at the top: every command would wait for matplotlib.
    from pcdm_core.report.gallery import Gallery, extremes
    from pcdm_core.report.page import report_page

    assert scorer.calibration is not None
    galleries = []
    with progress("making the report", len(sets) + 1) as update:
        for done, (images, measured) in enumerate(sets, start=1):
            most, least = extremes(measured, _SPECIMENS)
            pixels = {}
            # Read again, so that no more images than these are ever in memory.
            for place in {*most, *least}:
                (item,) = images.source.between(place, place + 1)
                pixels[place] = scorer.preprocessing.prepare(item.image, name=item.source).pixels
            galleries.append(Gallery(measured, most, least, pixels))
            update(done)
        write_atomically(report, report_page(document, scorer.calibration, galleries))


def _tables(document: dict[str, Any]) -> Iterator[Table | Text]:
    figures = Table(title=f"{document['model']} against {document['id']['source']}", caption=_INTERVALS)
    figures.add_column("figure")
    for one in document["sets"]:
        figures.add_column(Text(one["source"]), overflow="fold", justify="right")
    for name, cells in figure_rows(document):
        figures.add_row(name, *map(Text, cells))
    yield figures
    rates = Table(title="ID images flagged at p <= alpha")
    for name in ("alpha", "flagged", "tolerance"):
        rates.add_column(name, justify="right")
    for row in rate_rows(document):
        rates.add_row(*row)
    yield rates
    yield Text(sentence_on_batches(document))
