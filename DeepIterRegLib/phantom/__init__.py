"""Synthetic patients: a head's vessels, its CTA, and a DSA run of one injected territory, with the truth."""

from DeepIterRegLib.phantom.patient import Patient, clean_images, make_patient, second_run, truth_record, write_patient
from DeepIterRegLib.phantom.settings import CLEAN, PhantomSettings

__all__ = [
    "CLEAN",
    "Patient",
    "PhantomSettings",
    "clean_images",
    "make_patient",
    "second_run",
    "truth_record",
    "write_patient",
]
