"""The skull as anchor: the CTA's bone registered to the unsubtracted mask frame, whatever is injected or occluded."""

from DeepIterRegLib.registration.skull.register import BoneAgreement, BoneFound, BoneSettings, Skull

__all__ = ["BoneAgreement", "BoneFound", "BoneSettings", "Skull"]
