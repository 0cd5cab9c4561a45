"""The skull as anchor: the CTA's bone registered to the mask frame, or to what moved bone leaves, whatever is injected or occluded."""

from DeepIterRegLib.registration.skull.register import ResidueShares, Skull, SkullAgreement, SkullMatch
from DeepIterRegLib.registration.skull.settings import SkullSettings

__all__ = ["ResidueShares", "Skull", "SkullAgreement", "SkullMatch", "SkullSettings"]
