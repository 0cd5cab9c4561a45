"""The skull as anchor: the CTA's bone registered to the unsubtracted mask frame, whatever is injected or occluded."""

from DeepIterRegLib.registration.skull.register import Skull, SkullAgreement, SkullMatch, SkullSettings

__all__ = ["Skull", "SkullAgreement", "SkullMatch", "SkullSettings"]
