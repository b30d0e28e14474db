"""What may be done to training images at random. No TensorFlow."""

from __future__ import annotations

from typing import Literal

from sft_keras.recipe.section import Checks, section


@section
class Augment:
    """Random changes to the training images, each made by a Keras layer; 0 or False is off.

    Attributes:
      flip: Mirror left and right; "both" also turns upside down.
      crop: Largest share of height and width cut away, the rest scaled back to the full size.
      rotation: Largest turn either way, as a share of a full circle.
      zoom: Largest zoom in or out, as a share.
      translation: Largest shift of height and width, as a share.
      brightness: Largest change, as a share of the value range.
      contrast: Largest change, as a share.
      rand_augment: Magnitude of RandAugment (Cubuk et al. 2020, arXiv:1909.13719), 0 to 1.
      erasing: Probability that a rectangle is wiped out (Zhong et al. 2020, arXiv:1708.04896).
      mixup: Beta parameter of MixUp (Zhang et al. 2018, arXiv:1710.09412); labels are mixed too.
      cutmix: `factor` of Keras' CutMix (Yun et al. 2019, arXiv:1905.04899), 0 to 1: the higher,
        the more the sizes of the patches vary. Labels are mixed too.
    """

    flip: bool | Literal["both"] = False
    crop: float = 0.0
    rotation: float = 0.0
    zoom: float = 0.0
    translation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    rand_augment: float = 0.0
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def faults(self) -> list[str]:
        """Returns what is wrong with these fields, one sentence each."""
        checks = Checks("task.augment", self)
        shares = ("crop", "rotation", "zoom", "translation", "brightness", "contrast")
        for name in (*shares, "rand_augment", "erasing"):
            checks.between(name, 0.0, 1.0)
        checks.require("crop", self.crop < 1.0, "below 1, or nothing is left")
        checks.at_least("mixup", 0.0)
        checks.between("cutmix", 0.0, 1.0)
        if self.mixup and self.cutmix:
            checks.faults.append(
                "`task.augment` takes either `mixup` or `cutmix`: mixed images are not mixed again."
                f" Received: mixup={self.mixup}, cutmix={self.cutmix}."
            )
        return checks.faults
