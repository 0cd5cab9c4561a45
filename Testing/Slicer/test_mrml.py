"""Nodes to library objects, on the real MRML of slicer-core."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import slicer
import vtk

import scenes
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, mpe_mm, pose
from DeepIterRegLib.geometry.landmarks import pose_from_landmarks
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.dicom import GeometryOptions, read_angiogram, write_xa
from DeepIterRegSlicer.logic import DeepIterRegLogic, RegistrationOptions
from DeepIterRegSlicer.nodes import angiograms, landmarks, loading, masks, transforms, volumes
from DeepIterRegSlicer.nodes import frames as frameNodes

TYPED = GeometryOptions(
    primary_angle_deg=90, secondary_angle_deg=0, sid_mm=1100, sod_mm=720, pixel_spacing_mm=(0.4, 0.5)
)
OBLIQUE = np.array([[0.0, 0.8, 0.1, 10], [-0.7, 0.0, 0.0, 20], [0.0, 0.1, -0.9, 30], [0, 0, 0, 1]])


def carm(**changes: Any) -> CArm:
    values = {"sid_mm": 1193, "sod_mm": 720, "rows": 48, "columns": 64, "pixel_spacing_mm": (0.4, 0.5)}
    return CArm.from_angles(-28.5, 21.9, **(values | changes))


def counts(frames: int = 5) -> np.ndarray:
    """A head's shadow with a vessel from frame 2 on."""
    r, c = np.indices((48, 64))
    run = np.repeat((3000 * np.exp(-((r - 24) ** 2 + (c - 32) ** 2) / 600.0) + 500)[None], frames, axis=0)
    run[2:, 20:22, 10:-10] *= 0.7
    return run.round().astype(np.uint16)


def xa(path: Path, frames: int = 5, **tags: Any) -> Path:
    write_xa(path, counts(frames), carm(), np.arange(frames) * 0.5, (0, 1) if frames > 1 else ())
    ds = pydicom.dcmread(path)
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    ds.save_as(path)
    return path


def sameRun(a: Angiogram, b: Angiogram) -> None:
    np.testing.assert_array_equal(a.frames, b.frames)
    np.testing.assert_array_equal(a.valid, b.valid)
    np.testing.assert_allclose(a.frame_times_s, b.frame_times_s, atol=1e-6)
    assert a.carm == b.carm
    assert a.notes == b.notes


def problemsOf(call: Any) -> str:
    with pytest.raises(InputError) as caught:
        call()
    return "\n".join(caught.value.problems)


# -- CTA ----------------------------------------------------------------------------------------------------


def test_cta_keeps_voxels_and_place(scene: Any) -> None:
    voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    volume = volumes.ctaSource(scenes.addVolume(voxels, OBLIQUE))()
    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_allclose(volume.affine, OBLIQUE)


def test_linear_parents_turn_the_affine_and_a_result_is_left_out(scene: Any) -> None:
    node = scenes.addVolume(np.zeros((3, 4, 5), np.int16), OBLIQUE)
    inner, outer = (np.asarray(pose.se3_exp(np.array(t))) for t in ([0.1, 0.2, 0.3, 4, 5, 6], [0.4, 0, -0.3, 1, 0, 9]))
    innerNode, outerNode = scenes.addTransform(inner), scenes.addTransform(outer)
    innerNode.SetAndObserveTransformNodeID(outerNode.GetID())
    node.SetAndObserveTransformNodeID(innerNode.GetID())
    np.testing.assert_allclose(volumes.ctaSource(node)().affine, outer @ inner @ OBLIQUE, atol=1e-9)
    outerNode.SetAttribute(transforms.RESULT, "ctaToCarm")
    np.testing.assert_allclose(volumes.ctaSource(node)().affine, inner @ OBLIQUE, atol=1e-9)
    node.SetAndObserveTransformNodeID(outerNode.GetID())
    np.testing.assert_allclose(volumes.ctaSource(node)().affine, OBLIQUE, atol=1e-9)


def test_source_outlives_its_node_and_works_on_any_thread(scene: Any) -> None:
    voxels = np.random.default_rng(0).integers(-1000, 2000, (40, 50, 60)).astype(np.int16)
    node = scenes.addVolume(voxels, OBLIQUE)
    source = volumes.ctaSource(node)
    scene.RemoveNode(node)
    del node
    scene.Clear(0)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(source()))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(found[0].voxels, voxels)


def addNonLinear(strength_mm: float) -> tuple[Any, Any, np.ndarray]:
    """A volume that holds the gradient 2x + 3y - z of the world, seen through a transform that bends it."""

    def bend(at: np.ndarray) -> np.ndarray:
        wave = np.sin(at / 40.0)
        return strength_mm * np.stack([wave[..., 2], wave[..., 0], 0 * wave[..., 1]], axis=-1)

    affine = np.diag([4.0, 4.0, 5.0, 1.0])
    affine[:3, 3] = [-60, -60, -50]
    k, j, i = np.indices((20, 30, 30))
    local = np.stack([i, j, k], axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    world = local + bend(local)
    voxels = (world @ np.array([2.0, 3.0, -1.0])).astype(np.float32)
    node, transform = scenes.addVolume(voxels, affine), scenes.addGridTransform(bend)
    node.SetAndObserveTransformNodeID(transform.GetID())
    return node, transform, affine


def test_nonlinear_transform_is_straightened_on_a_copy(scene: Any) -> None:
    node, transform, _ = addNonLinear(5.0)
    before = slicer.util.arrayFromVolume(node).copy()
    source = volumes.ctaSource(node)
    transform.SetAndObserveTransformToParent(vtk.vtkTransform())  # what happens to the node later does no harm
    volume = source()
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), before)
    np.testing.assert_allclose(volume.spacing_mm, [4, 4, 5])
    inner = np.zeros(volume.voxels.shape, dtype=bool)
    inner[5:-5, 6:-6, 6:-6] = True
    at = volume.to_ras(np.argwhere(inner))
    np.testing.assert_allclose(volume.voxels[inner], at @ np.array([2.0, 3.0, -1.0]), atol=1.5)
    assert "acquisition transform" in volume.notes[0]


def test_transform_that_tears_the_head_apart_is_refused(scene: Any) -> None:
    node, _, _ = addNonLinear(400.0)
    assert "cannot be put on a regular grid" in problemsOf(lambda: volumes.ctaSource(node))


def test_what_is_no_cta_is_refused_in_a_sentence(scene: Any, tmp_path: Path) -> None:
    voxels = np.zeros((4, 5, 6), np.int16)
    colour = scenes.addVolume(np.zeros((4, 5, 6, 3), np.uint8), className="vtkMRMLVectorVolumeNode")
    labels = scenes.addVolume(voxels, className="vtkMRMLLabelMapVolumeNode")
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
    slice_ = scenes.addVolume(voxels[:1])
    series = DeepIterRegLogic().loadAngiogram(xa(tmp_path / "run.dcm"))
    assert "No CTA is selected" in problemsOf(lambda: volumes.ctaSource(None))
    assert "in colour (3 values a voxel)" in problemsOf(lambda: volumes.ctaSource(colour))
    assert "label map" in problemsOf(lambda: volumes.ctaSource(labels))
    assert "no voxels" in problemsOf(lambda: volumes.ctaSource(empty))
    assert "single slice" in problemsOf(lambda: volumes.ctaSource(slice_))
    assert "time series" in problemsOf(lambda: volumes.ctaSource(series))


# -- masks ----------------------------------------------------------------------------------------------------


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    return sum((axis - c) ** 2 for axis, c in zip(np.indices(shape), centre, strict=True)) <= radius**2


def test_segments_are_united_on_the_ctas_grid(scene: Any) -> None:
    cta = scenes.addVolume(np.zeros((20, 22, 24), np.int16), OBLIQUE)
    one, two = ball((20, 22, 24), (8, 9, 10), 4), ball((20, 22, 24), (12, 14, 12), 5)
    segmentation = scenes.addSegmentation({"one": one, "two": two}, OBLIQUE)
    found = masks.maskSource(segmentation, volumes.ctaSource(cta))()
    assert found.voxels.dtype == bool
    np.testing.assert_array_equal(found.voxels, one | two)
    np.testing.assert_allclose(found.affine, OBLIQUE)


def test_mask_on_another_grid_is_brought_onto_the_ctas(scene: Any) -> None:
    cta = scenes.addVolume(np.zeros((30, 30, 30), np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
    shift = scenes.addTransform(np.asarray(pose.translation(np.array([10.0, 0.0, 0.0]))))
    labels = scenes.addVolume(
        ball((60, 60, 50), (30, 30, 20), 10).astype(np.uint8), np.eye(4), "labels", "vtkMRMLLabelMapVolumeNode"
    )
    labels.SetAndObserveTransformNodeID(shift.GetID())
    found = masks.maskSource(labels, volumes.ctaSource(cta))()
    np.testing.assert_array_equal(found.voxels, ball((30, 30, 30), (15, 15, 15), 5))


def test_mask_and_cta_under_the_same_bend_stay_together(scene: Any) -> None:
    node, transform, affine = addNonLinear(5.0)
    segmentation = scenes.addSegmentation({"half": slicer.util.arrayFromVolume(node) > 0}, affine)
    segmentation.SetAndObserveTransformNodeID(transform.GetID())
    cta = volumes.ctaSource(node)
    mask = masks.maskSource(segmentation, cta)().voxels[5:-5, 6:-6, 6:-6]
    sure = np.abs(cta().voxels[5:-5, 6:-6, 6:-6]) > 15
    np.testing.assert_array_equal(mask[sure], (cta().voxels[5:-5, 6:-6, 6:-6] > 0)[sure])


def test_a_label_map_of_several_labels_is_asked_about(scene: Any) -> None:
    voxels = np.zeros((20, 22, 24), np.uint8)
    voxels[3:5, 3:6, 3:8], voxels[10:12, 2:4, 2:7] = 1, 5
    labels = scenes.addVolume(voxels, OBLIQUE, "map", "vtkMRMLLabelMapVolumeNode")
    labels.CreateDefaultDisplayNodes()
    table = scene.AddNewNodeByClass("vtkMRMLColorTableNode")
    table.SetTypeToUser()
    table.SetNumberOfColors(6)
    table.SetColor(1, "artery", 1, 0, 0, 1)
    table.SetColor(5, "bone", 0, 1, 0, 1)
    labels.GetDisplayNode().SetAndObserveColorNodeID(table.GetID())
    cta = volumes.ctaSource(scenes.addVolume(np.zeros((20, 22, 24), np.int16), OBLIQUE))
    said = problemsOf(lambda: masks.maskSource(labels, cta))
    assert "1 (artery, 30 voxels); 5 (bone, 20 voxels)" in said
    assert "segmentation" in said


def test_probabilities_are_thresholded(scene: Any) -> None:
    p = np.random.default_rng(0).random((20, 22, 24)).astype(np.float32)
    node = scenes.addVolume(p, OBLIQUE, "p", "vtkMRMLLabelMapVolumeNode")
    cta = volumes.ctaSource(scenes.addVolume(np.zeros((20, 22, 24), np.int16), OBLIQUE))
    found = masks.maskSource(node, cta)()
    np.testing.assert_array_equal(found.voxels, p >= 0.5)
    assert "probabilities" in found.notes[0]


def test_masks_that_are_none_are_refused(scene: Any) -> None:
    cta = volumes.ctaSource(scenes.addVolume(np.zeros((4, 5, 6), np.int16)))
    none = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "fresh")
    blank = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "blank")
    blank.GetSegmentation().AddEmptySegment("vessels")
    assert "has no segments" in problemsOf(lambda: masks.maskSource(none, cta))
    assert "blank is empty" in problemsOf(lambda: masks.maskSource(blank, cta))
    assert "neither a segmentation" in problemsOf(lambda: masks.maskSource(scenes.addTransform(np.eye(4)), cta))


def test_dsa_mask_is_drawn_on_the_frames(scene: Any, tmp_path: Path) -> None:
    dsa = DeepIterRegLogic().loadAngiogram(xa(tmp_path / "run.dcm"))
    drawn = np.zeros((1, 48, 64), bool)
    drawn[0, 20:22, 10:-10] = True
    segmentation = scenes.addSegmentation({"vessel": drawn}, volumes.ijkToRas(dsa))
    np.testing.assert_array_equal(masks.dsaMaskSource(segmentation, dsa)(), drawn[0])
    np.testing.assert_array_equal(masks.dsaMaskSource(segmentation, frameNodes.sequenceOf(dsa))(), drawn[0])


# -- poses --------------------------------------------------------------------------------------------------


def test_pose_of_a_transform_node(scene: Any) -> None:
    matrix = np.asarray(pose.se3_exp(np.array([0.3, -0.2, 0.1, 10.0, 20.0, -5.0])))
    np.testing.assert_allclose(transforms.poseSource(scenes.addTransform(matrix))(), matrix)
    assert "not rigid" in problemsOf(lambda: transforms.poseSource(scenes.addTransform(np.diag([1.0, 1, 2, 1]))))
    assert "not linear" in problemsOf(
        lambda: transforms.poseSource(scenes.addGridTransform(lambda at: 5 * np.sin(at / 30)))
    )


def test_landmarks_on_a_registered_cta_and_on_the_detector(scene: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    view = carm(pixel_spacing_mm=(5.0, 4.0))
    write_xa(tmp_path / "run.dcm", counts(), view, np.arange(5) * 0.5, (0, 1))
    dsa = DeepIterRegLogic().loadAngiogram(tmp_path / "run.dcm")
    cta = scenes.addVolume(np.zeros((50, 50, 50), np.int16), np.eye(4))
    centre = np.full(3, 25.0)
    wanted = np.asarray(pose.se3_exp(np.array([0.2, -0.1, 0.1, 0.0, 0.0, 0.0]))) @ pose.radiological(centre)
    points = centre + rng.uniform(-40, 40, (6, 3))
    pixels = view.project(points, wanted)
    assert ((pixels > 0) & (pixels < [63, 47])).all()
    onSlice = np.column_stack([pixels, np.zeros(6), np.ones(6)]) @ volumes.ijkToRas(dsa).T
    onDetector = view.pixel_positions(pixels)
    earlier = scenes.addTransform(np.asarray(pose.se3_exp(np.array([0.5, 0.1, 0.0, 30.0, 5.0, 2.0]))))
    earlier.SetAttribute(transforms.RESULT, "ctaToCarm")
    for under in (False, True):
        cta.SetAndObserveTransformNodeID(earlier.GetID() if under else None)
        shown = pose.transform(slicer.util.arrayFromTransformMatrix(earlier), points) if under else points
        for positions in (onSlice[:, :3], onDetector):
            lists = (scenes.addPoints(shown), scenes.addPoints(positions))
            paired = landmarks.landmarkSource(*lists, cta, dsa, view)()
            found = pose_from_landmarks(paired.points_cta_mm, paired.pixels, view).cta_to_carm
            assert len(set(paired.names)) == 6
            assert mpe_mm(view, found, wanted, centre) < 0.2
    beside = onDetector.copy()
    beside[5, 2] += 400
    text = problemsOf(lambda: landmarks.landmarkSource(lists[0], scenes.addPoints(beside), cta, dsa, view))
    assert "number 6 do not lie on the DSA" in text
    assert problemsOf(lambda: landmarks.landmarkSource(None, None, cta, dsa, view)).count("are selected") == 2


# -- angiograms -----------------------------------------------------------------------------------------------


class Database:
    """The one method of `slicer.dicomDatabase` that is used."""

    def __init__(self, files: dict[str, Path]) -> None:
        self.files = files

    def fileForInstance(self, uid: str) -> str:
        return str(self.files.get(uid, ""))


def asStockPlugin(path: Path) -> Any:
    """Frames as Slicer's DICOMImageSequencePlugin puts them: ITK's values, one UID on each, no geometry."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    frames = sitk.GetArrayFromImage(reader.Execute())
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "2: XA run [1]")
    for t, frame in enumerate(frames):
        volume = slicer.vtkMRMLScalarVolumeNode()
        slicer.util.updateVolumeFromArray(volume, frame[None])
        volume.SetAttribute("DICOM.instanceUIDs", str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID))
        sequence.SetDataNodeAtValue(volume, str(t * 0.5))
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    return browser.GetProxyNode(sequence)


def test_loaded_run_is_the_run_of_the_file_by_any_of_its_nodes(scene: Any, tmp_path: Path) -> None:
    path = xa(tmp_path / "run.dcm", PatientName="SECRET^NAME", PatientID="SECRET")
    proxy = DeepIterRegLogic().loadAngiogram(path)
    sequence = frameNodes.sequenceOf(proxy)
    browser = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSequenceBrowserNode")
    for node in (proxy, sequence, browser):
        source, view = angiograms.runSource(node)
        sameRun(source(), read_angiogram(path))
        assert view == source().carm
    browser.SetSelectedItemNumber(3)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(proxy)[0], counts()[3])
    assert sequence.GetNthIndexValue(3) == "1.5"
    assert "SECRET" not in "".join(str(slicer.mrmlScene.GetNthNode(n)) for n in range(scene.GetNumberOfNodes()))


@pytest.mark.parametrize("inverted", [False, True])
def test_stock_plugins_run_gets_its_geometry_from_the_database_and_keeps_it(
    scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inverted: bool
) -> None:
    changes = (
        {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": 2, "RescaleIntercept": -3} if inverted else {}
    )
    path = xa(tmp_path / "run.dcm", **changes)
    wanted = read_angiogram(path)
    proxy = asStockPlugin(path)
    uid = str(pydicom.dcmread(path).SOPInstanceUID)
    with pytest.raises(InputError, match="PositionerPrimaryAngle"):
        angiograms.runSource(proxy)
    monkeypatch.setattr(slicer, "dicomDatabase", Database({uid: path}), raising=False)
    sameRun(angiograms.runSource(proxy)[0](), wanted)
    path.unlink()
    monkeypatch.delattr(slicer, "dicomDatabase")
    sameRun(angiograms.runSource(proxy)[0](), wanted)
    again = scenes.saveAndReopen(tmp_path)
    proxy = again.GetFirstNodeByClass("vtkMRMLSequenceBrowserNode").GetProxyNode(
        again.GetFirstNodeByClass("vtkMRMLSequenceNode")
    )
    sameRun(angiograms.runSource(proxy)[0](), wanted)


def test_volume_read_from_a_dicom_file_knows_it_by_its_storage(scene: Any, tmp_path: Path) -> None:
    path = xa(tmp_path / "run.dcm")
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "stack")
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    node.SetAndObserveStorageNodeID(storage.GetID())
    sameRun(angiograms.runSource(node)[0](), read_angiogram(path))


def test_single_frame_is_a_volume(scene: Any, tmp_path: Path) -> None:
    path = xa(tmp_path / "run.dcm", frames=1)
    node = DeepIterRegLogic().loadAngiogram(path)
    assert frameNodes.sequenceOf(node) is None
    sameRun(angiograms.runSource(node)[0](), read_angiogram(path))


def test_image_file_takes_typed_geometry(scene: Any, tmp_path: Path) -> None:
    path = tmp_path / "frame.png"
    sitk.WriteImage(sitk.GetImageFromArray((255 - 60 * (counts()[4] < counts()[0])).astype(np.uint8)), str(path))
    node = DeepIterRegLogic().loadAngiogram(path)
    sameRun(angiograms.runSource(node, TYPED)[0](), read_angiogram(path, TYPED))
    text = problemsOf(lambda: DeepIterRegLogic().prepare(None, node))
    for label in ("primary angle", "secondary angle", "source to detector", "source to isocentre", "pixel spacing"):
        assert label in text
    assert "No CTA is selected" in text
    assert "--" not in text


def test_where_each_value_comes_from(scene: Any, tmp_path: Path) -> None:
    path = xa(tmp_path / "run.dcm", DistanceSourceToPatient=None, EstimatedRadiographicMagnificationFactor=None)
    values = angiograms.cArmOf(DeepIterRegLogic().loadAngiogram(path), GeometryOptions(secondary_angle_deg=5.0))
    assert values["sid_mm"].value == pytest.approx(1193)
    assert values["sid_mm"].source == "DistanceSourceToDetector (0018,1110)"
    assert (values["secondary_angle_deg"].value, values["secondary_angle_deg"].source) == (5.0, "typed")
    assert values["sod_mm"].value is None
    assert "DistanceSourceToPatient (0018,1111)" in values["sod_mm"].problem
    assert 'Set "Source to isocentre".' in values["sod_mm"].problem


def test_what_is_no_angiogram_is_refused_in_a_sentence(scene: Any, tmp_path: Path) -> None:
    logic = DeepIterRegLogic()
    fluoroscopy = xa(tmp_path / "rf.dcm", Modality="RF", SOPClassUID="1.2.840.10008.5.1.4.1.1.12.2")
    assert "radiofluoroscopy" in problemsOf(lambda: logic.loadAngiogram(fluoroscopy))
    assert "does not exist" in problemsOf(lambda: logic.loadAngiogram(tmp_path / "absent.dcm"))
    (tmp_path / "text.dcm").write_text("no DICOM")
    assert "not a DICOM file" in problemsOf(lambda: logic.loadAngiogram(tmp_path / "text.dcm"))
    colour = scenes.addVolume(np.zeros((1, 48, 64, 3), np.uint8), className="vtkMRMLVectorVolumeNode")
    assert "in colour" in problemsOf(lambda: angiograms.runSource(colour, TYPED))
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "empty")
    assert "without frames" in problemsOf(lambda: angiograms.runSource(sequence, TYPED))
    assert "does not hold images" in problemsOf(lambda: angiograms.runSource(scenes.addTransform(np.eye(4)), TYPED))
    assert "No DSA is selected" in problemsOf(lambda: angiograms.runSource(None, TYPED))
    ct = scenes.addVolume(np.zeros((40, 48, 64), np.int16))
    assert "is it the CTA?" in problemsOf(lambda: angiograms.runSource(ct))
    rotational = xa(tmp_path / "3d.dcm", PositionerPrimaryAngleIncrement=[0.0, 10.0, 20.0, 30.0, 40.0])
    assert "rotational run" in problemsOf(lambda: angiograms.runSource(logic.loadAngiogram(rotational)))


def test_swapped_inputs_are_noticed(scene: Any, tmp_path: Path) -> None:
    dsa = DeepIterRegLogic().loadAngiogram(xa(tmp_path / "run.dcm"))
    cta = scenes.addVolume(np.linspace(-1000, 2000, 30 * 20 * 20).reshape(30, 20, 20).astype(np.int16))
    text = problemsOf(lambda: DeepIterRegLogic().prepare(dsa, cta))
    assert "CTA and DSA seem to be swapped" in text
    assert "\n" not in text
    assert not angiograms.swapped(cta, dsa)


def test_all_problems_at_once(scene: Any) -> None:
    labels = scenes.addVolume(np.zeros((4, 5, 6), np.uint8), className="vtkMRMLLabelMapVolumeNode")
    options = RegistrationOptions(
        init="transform",
        contrast_hu=3.0,
        first_frame=5,
        last_frame=3,
        referenceTransform=scenes.addTransform(np.diag([2.0, 1, 1, 1])),
    )
    text = problemsOf(lambda: DeepIterRegLogic().prepare(labels, None, options))
    for part in ("label map", "No DSA", "No initial transform", "not rigid", "contrast_hu", "are no range"):
        assert part in text


def test_frames_stand_as_slicers_plugin_places_them(scene: Any, tmp_path: Path) -> None:
    node = loading.loadAngiogram(xa(tmp_path / "run.dcm"))
    np.testing.assert_allclose(volumes.ijkToRas(node), np.diag([-0.5, -0.4, 1.0, 1.0]))
