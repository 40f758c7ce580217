"""Certificates: lower bounds on robust accuracy, from proofs.

A module per method, named as it is registered.
"""

from robustcode.certificates import Certificate, Status
from robustcode.certify.alpha_crown import AlphaCROWN
from robustcode.certify.bab import BranchAndBound
from robustcode.certify.base import METHODS, Claim, Method, Prover
from robustcode.certify.coded import Coded
from robustcode.certify.coded_noise import CodedNoise
from robustcode.certify.crown import CROWN
from robustcode.certify.ibp import IBP
from robustcode.certify.lipschitz import Lipschitz
from robustcode.certify.smoothing import Smoothing

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
