"""Where the methods that a run used were published."""

from __future__ import annotations

from collections.abc import Iterable

EOT = (
    "Expectation over transformation: Athalye, Engstrom, Ilyas and Kwok 2018, Synthesizing robust "
    "adversarial examples, arXiv:1707.07397."
)
BPDA = (
    "Surrogate gradient (BPDA): Athalye, Carlini and Wagner 2018, Obfuscated gradients give a "
    "false sense of security, arXiv:1802.00420."
)
_AUTOATTACK = (
    "Croce and Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of "
    "diverse parameter-free attacks, arXiv:2003.01690."
)
_FAB = (
    "Croce and Hein 2020, Minimally distorted adversarial examples with a fast adaptive boundary "
    "attack, arXiv:1907.02044."
)
_PGD = (
    "Madry, Makelov, Schmidt, Tsipras and Vladu 2018, Towards deep learning models resistant to "
    "adversarial attacks, arXiv:1706.06083."
)

REFERENCES = {
    "fgsm": "Goodfellow, Shlens and Szegedy 2015, Explaining and harnessing adversarial examples, "
    "arXiv:1412.6572.",
    "pgd": _PGD,
    "warm": _PGD,
    "mended": BPDA,
    "transfer": "Papernot, McDaniel and Goodfellow 2016, Transferability in machine learning, "
    "arXiv:1605.07277.",
    "apgd-ce": _AUTOATTACK,
    "apgd-dlr": _AUTOATTACK,
    "apgd-t": _AUTOATTACK,
    "apgd-margin": _AUTOATTACK,
    "apgd-pm": _AUTOATTACK + " The loss: Xie, Zheng, Huang, Ye and Ma 2024, Towards million-scale "
    "adversarial robustness evaluation with stronger individual attacks, arXiv:2411.15210.",
    "fab": _FAB,
    "fab-t": _FAB,
    "deepfool": "Moosavi-Dezfooli, Fawzi and Frossard 2016, DeepFool: a simple and accurate method "
    "to fool deep neural networks, arXiv:1511.04599.",
    "ddn": "Rony, Hafemann, Oliveira, Ben Ayed, Sabourin and Granger 2019, Decoupling direction "
    "and norm for efficient gradient-based L2 adversarial attacks and defenses, arXiv:1811.09600.",
    "fmn": "Pintor, Roli, Brendel and Biggio 2021, Fast minimum-norm adversarial attacks through "
    "adaptive norm constraints, arXiv:2102.12827.",
    "cw": "Carlini and Wagner 2017, Towards evaluating the robustness of neural networks, "
    "arXiv:1608.04644.",
    "nes": "Ilyas, Engstrom, Athalye and Lin 2018, Black-box adversarial attacks with limited "
    "queries and information, arXiv:1804.08598.",
    "spsa": "Uesato, O'Donoghue, van den Oord and Kohli 2018, Adversarial risk and the dangers of "
    "evaluating against weak attacks, arXiv:1802.05666.",
    "hopskipjump": "Chen, Jordan and Wainwright 2020, HopSkipJumpAttack: a query-efficient "
    "decision-based attack, arXiv:1904.02144.",
    "aggmo": "Sitawarin, Golan-Strieb and Wagner 2022, Demystifying the adversarial robustness of "
    "random transformation defenses, arXiv:2207.03574.",
    "square": "Andriushchenko, Croce, Flammarion and Hein 2020, Square attack, arXiv:1912.00049.",
    "gaussian-noise": "Cohen, Rosenfeld and Kolter 2019, Certified adversarial robustness via "
    "randomized smoothing, arXiv:1902.02918.",
    "random-resize-pad": "Xie, Wang, Zhang, Ren and Yuille 2018, Mitigating adversarial effects "
    "through randomization, arXiv:1711.01991.",
    "bit-depth": "Xu, Evans and Qi 2018, Feature squeezing: detecting adversarial examples in deep "
    "neural networks, arXiv:1704.01155.",
    "confidence": "Hendrycks and Gimpel 2017, A baseline for detecting misclassified and "
    "out-of-distribution examples in neural networks, arXiv:1610.02136.",
    "coded-smoothing": "Moradi, Jahani-Nezhad and Maddah-Ali 2025, Coded-smoothing, "
    "arXiv:2510.00253.",
    "mixup-inference": "Pang, Xu and Zhu 2020, Mixup inference: better exploiting mixup to defend "
    "adversarial attacks, arXiv:1909.11515.",
    "random-ensemble": "Pinot, Ettedgui, Rizk, Chevaleyre and Atif 2020, Randomization matters: "
    "how to defend against strong adversarial attacks, arXiv:2002.11565.",
    "transfer-pgd": "Croce, Gowal, Brunner, Shelhamer, Hein and Cemgil 2022, Evaluating the "
    "adversarial robustness of adaptive test-time defenses, arXiv:2202.13711.",
    "smoothing": "Cohen, Rosenfeld and Kolter 2019, Certified adversarial robustness via "
    "randomized smoothing, arXiv:1902.02918.",
    "ibp": "Gowal et al. 2018, On the effectiveness of interval bound propagation for training "
    "verifiably robust models, arXiv:1810.12715.",
    "alpha-crown": "Xu, Zhang, Wang, Wang, Jana, Lin and Hsieh 2021, Fast and complete: enabling "
    "complete neural network verification with rapid and massively parallel incomplete verifiers, "
    "arXiv:2011.13824.",
    "bab": "Wang, Zhang, Xu, Lin, Jana, Hsieh and Kolter 2021, Beta-CROWN: efficient bound "
    "propagation with per-neuron split constraints for complete and incomplete neural network "
    "robustness verification, arXiv:2103.06624.",
    "crown": "Zhang, Weng, Chen, Hsieh and Daniel 2018, Efficient neural network robustness "
    "certification with general activation functions, arXiv:1811.00866.",
    "lipschitz": "Hein and Andriushchenko 2017, Formal guarantees on the robustness of a "
    "classifier against adversarial manipulation, arXiv:1705.08475; Weng et al. 2018 (Fast-Lip), "
    "arXiv:1804.09699.",
}

NOISE = (
    "Uniform noise of the attacks' size is a control, not an attack: an attack that does no better "
    "has found nothing."
)
NOT_DIFFERENTIABLE = frozenset({"bit-depth", "jpeg"})


def references(methods: Iterable[str], stochastic: bool) -> list[str]:
    """Citations of the named attacks, defences and certificates, each once, in that order.

    A name without an entry, such as a plug-in's, is passed over.
    """
    cited: list[str] = []
    for name in methods:
        if name in REFERENCES:
            cited.append(f"{name}: {REFERENCES[name]}")
        if name in NOT_DIFFERENTIABLE:
            cited.append(f"{name}: {BPDA}")
        if name == "noise":
            cited.append(f"noise: {NOISE}")
    if stochastic:
        cited.append(EOT)
    return list(dict.fromkeys(cited))
