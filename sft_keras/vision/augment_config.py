"""Configuration of image augmentation. Does not import TensorFlow."""

from __future__ import annotations

from typing import Literal

from sft_keras.recipe.section import Checks, section


@section
class Augment:
    """Random augmentation of the training images by Keras layers; 0 or False turns a layer off.

    Attributes:
      flip: Flip horizontally; "both" also flips vertically.
      crop: Largest share of height and width to crop, 0 .. 1; the rest is resized to full size.
      rotation: Largest rotation in either direction, as a share of a full circle, 0 .. 1.
      zoom: Largest zoom in or out, as a share of the size, 0 .. 1.
      translation: Largest shift, as a share of height and width, 0 .. 1.
      brightness: Largest change, as a share of the value range, 0 .. 1.
      contrast: Largest relative change, 0 .. 1.
      rand_augment: Magnitude of RandAugment (Cubuk et al. 2020, arXiv:1909.13719), 0 .. 1.
      erasing: Probability of erasing a rectangle (Zhong et al. 2020, arXiv:1708.04896), 0 .. 1.
      mixup: Beta parameter of MixUp (Zhang et al. 2018, arXiv:1710.09412), which also mixes labels.
      cutmix: `factor` of Keras' CutMix (Yun et al. 2019, arXiv:1905.04899), 0 .. 1: the higher,
        the more the patch sizes vary. It also mixes labels.

    Example:

    >>> from sft_keras.tasks import Augment, ImageClassification
    >>> task = ImageClassification(augment=Augment(flip=True, rotation=0.05))
    >>> Augment(crop=1.5).faults()[0].startswith("`task.augment.crop` must be")
    True
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
        """Return what is wrong with these fields, one sentence each."""
        checks = Checks("task.augment", self)
        shares = ("crop", "rotation", "zoom", "translation", "brightness", "contrast")
        for name in (*shares, "rand_augment", "erasing"):
            checks.between(name, 0.0, 1.0)
        checks.require("crop", self.crop < 1.0, "below 1, or no pixels remain")
        checks.at_least("mixup", 0.0)
        checks.between("cutmix", 0.0, 1.0)
        if self.mixup and self.cutmix:
            checks.faults.append(
                "`task.augment` accepts either `mixup` or `cutmix`, not both: mixed images are not "
                f"mixed again. Received: mixup={self.mixup}, cutmix={self.cutmix}."
            )
        return checks.faults
