"""Synthetic patients: a head's vessels, its CTA, and a DSA run of one injected territory, with the truth."""

from DeepIterRegLib.phantom.patient import Patient, clean_images, make_patient, second_run, truth_record, write_patient
from DeepIterRegLib.phantom.procedure import Procedure, ProcedureRun, make_procedure
from DeepIterRegLib.phantom.procedure_files import as_read, write_procedure
from DeepIterRegLib.phantom.settings import CLEAN, PhantomSettings, ProcedureSettings

__all__ = [
    "CLEAN",
    "Patient",
    "PhantomSettings",
    "Procedure",
    "ProcedureRun",
    "ProcedureSettings",
    "as_read",
    "clean_images",
    "make_patient",
    "make_procedure",
    "second_run",
    "truth_record",
    "write_patient",
    "write_procedure",
]
