"""What is typed: every command on a patient's files, on files that are none, and wrongly."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from identity_patient import PatientFiles

Words = list[str | Path]
OUT = "Ausgabe"


def commands_on(path: Path, patient: PatientFiles, small: bool) -> Iterator[Words]:
    """Each command that ends before it does work, with the file in each place."""
    out = patient.folder / OUT
    cta, dsa = patient.cta, patient.dsa
    lines: list[Words] = [["info", path], ["info", path, "--json"]]
    if not small:
        lines += [
            ["register", path, dsa, "--out", out],
            ["register", cta, path, "--out", out],
            ["register", cta, dsa, "--out", out, "--cta-mask", f"{path}:{patient.folder.name}"],
            ["register", cta, dsa, "--out", out, "--landmarks", path],
            ["register", cta, dsa, "--out", out, "--init", path, "--reference", path],
            ["register", cta, dsa, "--out", out, "--projection-matrix", path],
            ["segment", path, "--out", out],
            ["project", path, "--out", patient.folder / "Bild.png", "--like", path],
            ["project", "--item", f"{path}:red:{patient.folder.name}", "--out", patient.folder / "Bild.png"],
            ["export", path, "--to", "opencv", "--out", patient.folder / "Kamera.json"],
            ["pick", path, "1,2"],
            ["batch", "--cases", path, "--out", out],
            ["study", "make", "--cases", path, "--out", out],
            ["study", "analyse", path],
            ["train", "--out", out, "--patient", path, "--weights", path],
        ]
    if path.suffix == ".toml":  # another file that is empty would be settings, and train for hours
        lines.append(["train", "--out", out, "--config", path])
    yield from lines


def wrong_uses(patient: PatientFiles) -> Iterator[Words]:
    """What is typed wrongly: words too many, values of another kind, files that are not there, places that cannot be."""
    name, absent = patient.folder.name, patient.folder / f"{patient.folder.name}.xyz"
    both: tuple[Path, Path] = (patient.cta, patient.dsa)
    out = patient.folder / OUT
    (patient.folder / "voll").mkdir(exist_ok=True)
    (patient.folder / "voll" / f"{name}.txt").write_text("x")
    yield from (
        [name],
        ["info"],
        ["info", patient.dsa, absent, name],
        ["info", absent],
        ["info", patient.folder],
        ["register", absent, absent, "--out", out],
        ["register", *both, "--out", patient.folder / "voll"],
        ["register", *both, "--out", patient.folder / "voll", "--overwrite"],
        ["register", *both, "--out", patient.dsa],
        ["register", *both, "--out", patient.dsa / "unter"],
        ["register", *both, "--out", out, "--phase", name],
        ["register", *both, "--out", out, "--sid", name],
        ["register", *both, "--out", out, f"--preset={name}"],
        ["register", *both, "--out", out, "--pixel-spacing", name, "--mask-frames", name, "--head-centre", name],
        ["register", *both, "--out", out, "--init", absent, "--reference", absent, "--weights", absent],
        ["register", *both, "--out", out, "--cta-mask", absent, "--dsa-mask", absent, "--landmarks", absent],
        ["register", patient.slices, patient.dsa, "--out", out, "--series", name],
        ["segment", absent, "--out", out],
        ["project", absent, "--out", patient.folder / f"{name}.xyz"],
        ["project", "--item", f"{absent}:{name}", "--out", patient.folder / "Bild.png"],
        ["export", absent, "--to", "dicom", "--out", out, "--dsa", absent, "--cta", absent],
        ["export", absent, "--to", name, "--out", out],
        ["pick", absent, name],
        ["batch", "--cases", absent, "--out", out],
        ["experiment", name, "--out", out],
        ["experiment", "anatomy", "--out", patient.folder / "voll", "--cases", absent],
        ["experiment", "anatomy", "--out", patient.dsa],
        ["study", "make", "--cases", patient.folder, "--out", out],
        ["study", "unblind", patient.folder, absent],
        ["study", "analyse", absent, "--out", patient.folder / "voll"],
        ["train", "--out", out, "--patient", absent, "--config", absent],
        ["phantom", "--seed", name, "--out", out],
        ["phantom", "--procedure", "--views", "2", "--out", patient.folder / name],
    )


_TRAINING = """[network]
rows = 32
pixel_mm = 8.0
[training]
heads = 1
batch = 2
batches = 2
epochs = 1
judged = 2
workers = 0
loss_points = 200
schedule = "constant"
accelerator = "cpu"
precision = "32-true"
"""


def commands(p: PatientFiles) -> Iterator[tuple[str, Words, list[Path]]]:
    """Name, words, and where what was written is searched."""
    home, both = p.folder, [p.cta, p.dsa]
    result, item = home / "Ergebnis", f"{p.mask}:red:outline"
    yield "info", ["info", p.cta], []
    yield "info of slices", ["info", p.slices, "--json"], []
    yield "register", ["register", *both, "--out", result, "--reference", p.truth, "--cta-mask", p.mask], [result]
    yield "register, JSON", ["register", *both, "--out", home / "zwei", "--init", p.truth, "--json"], [home / "zwei"]
    yield "register again", ["register", *both, "--out", result], []
    yield "segment CTA", ["segment", p.cta, "--out", home / "s1"], [home / "s1"]
    yield "segment DSA", ["segment", p.dsa, "--out", home / "s2", "--json"], [home / "s2"]
    for n, (words, ending) in enumerate(
        (
            (["project", p.mask, "--like", p.dsa], "nii.gz"),
            (["project", "--item", item, "--like", p.dsa, "--pose", result / "ctaToCarm.tfm"], "png"),
            *(
                (["export", result, "--to", to], ending)
                for to, ending in (("itk", "tfm"), ("opencv", "json"), ("vtk", "json"))
            ),
            (["export", result, "--to", "gif", "--dsa", p.dsa, "--item", item], "gif"),
            (["export", result, "--to", "mp4", "--dsa", p.dsa], "mp4"),
        )
    ):
        file = home / f"Bild_{n}.{ending}"
        yield " ".join(map(str, (words[0], n))), [*words, "--out", file], [file]
    yield "export to DICOM", ["export", result, "--to", "dicom", "--dsa", p.dsa, "--out", home / "d"], [home / "d"]
    incoming = home / "Eingang"
    incoming.mkdir(exist_ok=True)
    shutil.copy(p.dsa, incoming)
    words = ["follow", p.cta, "--incoming", incoming, "--cta-mask", p.mask, "--until-idle", "1"]
    yield "follow", [*words, "--out", home / "Sitzung"], [home / "Sitzung"]
    yield "pick", ["pick", result, "100,100", "--vessels", p.mask, "--json"], []
    yield from _on_tables(p, result)
    config = home / "klein.toml"
    config.write_text(_TRAINING)
    tuned, mine = home / "gelernt", ["train", "--patient", p.mask, "--config", config]
    yield "train", [*mine, "--out", tuned], [tuned]
    yield "train, gone on with", [*mine, "--out", tuned, "--minutes", "1"], [tuned]
    other = ["train", "--patient", p.cta, "--config", config, "--out", tuned]
    yield "train on another patient", other, [tuned]
    weights = tuned / "initial_pose.safetensors"
    out = home / "drei"
    yield (
        "register with these weights",
        ["register", *both, "--out", out, "--init", "network", "--weights", weights],
        [out],
    )


def _on_tables(p: PatientFiles, result: Path) -> Iterator[tuple[str, Words, list[Path]]]:
    home = p.folder
    cases = home / "Faelle.csv"
    rows = [
        f"p1,{p.cta},{p.dsa},{p.truth},{p.truth}",
        f"p2,{p.cta},{p.slices},{p.truth},{p.truth}",
        f"p3,{p.dsa},{home / 'fehlt.dcm'},{p.truth},",
        f"p4,{p.cta},{p.dsa},{home.name},{home.name}",
    ]
    cases.write_text("name,cta,dsa,reference,init\n" + "\n".join(rows) + "\n")
    yield "batch", ["batch", "--cases", cases, "--out", home / "b1"], [home / "b1"]
    yield "batch again", ["batch", "--cases", cases, "--out", home / "b1"], [home / "b1"]
    yield "batch by two", ["batch", "--cases", cases, "--out", home / "b2", "--workers", "2"], [home / "b2"]
    own = home / "eigene.csv"
    own.write_text("name,cta,dsa,reference\n" + "\n".join(",".join(row.split(",")[:4]) for row in rows[:3]) + "\n")
    for name in ("pose-statistics", "landscape"):
        out = home / name
        yield f"experiment {name}", ["experiment", name, "--out", out, "--cases", own, "--n", "2", "--small"], [out]
    study, ranks = home / "Studie", home / "Studie" / "ranks.csv"
    table = home / "Studie.csv"
    lines = [f"P1,{method},{folder},{p.dsa}" for method, folder in (("A", result), ("B", home / "zwei"))]
    table.write_text("patient,method,folder,dsa\n" + "\n".join(lines) + "\n")
    yield "study make", ["study", "make", "--cases", table, "--out", study, "--seed", "1"], [study]
    # As a reader would; the study's own names are known only now.
    yield "study unblind, unanswered", ["study", "unblind", study], [study]
    ranks.parent.mkdir(exist_ok=True)
    answers = home / "ranks.csv"
    answers.write_text("reader,patient,left,right,rank\nr1,P1,A,B,1\nr2,P1,B,A,5\n")
    yield "study analyse", ["study", "analyse", answers, "--out", home / "a"], [home / "a"]
