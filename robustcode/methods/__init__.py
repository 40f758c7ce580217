"""Certificates: lower bounds on robust accuracy, from proofs.

A module per method, named as it is registered.
"""

from robustcode.certificates import Certificate, Status
from robustcode.methods.alpha_crown import AlphaCROWN
from robustcode.methods.bab import BranchAndBound
from robustcode.methods.base import METHODS, Claim, Method, Prover
from robustcode.methods.coded import Coded
from robustcode.methods.coded_noise import CodedNoise
from robustcode.methods.crown import CROWN
from robustcode.methods.ibp import IBP
from robustcode.methods.lipschitz import Lipschitz
from robustcode.methods.smoothing import Smoothing

__all__ = [
    "CROWN",
    "IBP",
    "METHODS",
    "AlphaCROWN",
    "BranchAndBound",
    "Certificate",
    "Claim",
    "Coded",
    "CodedNoise",
    "Lipschitz",
    "Method",
    "Prover",
    "Smoothing",
    "Status",
]
