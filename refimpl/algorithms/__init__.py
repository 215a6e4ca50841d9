"""Bilevel algorithms, one file each (author, year, method), on one protocol; and their exact analysis."""

from refimpl.algorithms.arbel2021amigo import AmIGO
from refimpl.algorithms.bsgm_guarantee import BSGMGuarantee, bsgm_guarantee
from refimpl.algorithms.chen2021alset import ALSET
from refimpl.algorithms.chen2021alset_dagger import ALSETDagger
from refimpl.algorithms.chen2022stable import STABLE
from refimpl.algorithms.exact import FixedLambda, Joint, WholeState, fixed_lambda, whole_state
from refimpl.algorithms.ghadimi2018bsa import BSA, neumann_terms
from refimpl.algorithms.grazzi2023bsgm import BSGM, mean_square_mapping
from refimpl.algorithms.guo2021smb import SMB
from refimpl.algorithms.guo2021stablevr import STABLEVR
from refimpl.algorithms.hong2020ttsa import TTSA
from refimpl.algorithms.huang2021sabiadam import SaBiAdam
from refimpl.algorithms.huang2021vrsabiadam import VRSaBiAdam
from refimpl.algorithms.ji2021stocbio import StocBiO, hessian_batches
from refimpl.algorithms.khanduri2021sustain import SUSTAIN
from refimpl.algorithms.li2020improved import Improved, ImprovedState
from refimpl.algorithms.li2022fsla import FSLA, FSLAState
from refimpl.algorithms.mehra2019penalty import AugmentedLagrangianMethod, Penalty
from refimpl.algorithms.protocol import AdjointState, Algorithm, Run, State, projected, run
from refimpl.algorithms.ren2018l2rw import L2RW
from refimpl.algorithms.shu2019metaweightnet import MetaWeightNet
from refimpl.algorithms.storm import storm, storm_moments
from refimpl.algorithms.table import table
from refimpl.algorithms.yang2021mrbo import MRBO
from refimpl.algorithms.yang2021vrbo import VRBO
from refimpl.algorithms.yu2024dropout import DropoutFSLA
from refimpl.errors import Diverged

__all__ = [
    "ALSET",
    "BSA",
    "BSGM",
    "FSLA",
    "L2RW",
    "MRBO",
    "SMB",
    "STABLE",
    "STABLEVR",
    "SUSTAIN",
    "TTSA",
    "VRBO",
    "ALSETDagger",
    "AdjointState",
    "Algorithm",
    "AmIGO",
    "AugmentedLagrangianMethod",
    "BSGMGuarantee",
    "Diverged",
    "DropoutFSLA",
    "FSLAState",
    "FixedLambda",
    "Improved",
    "ImprovedState",
    "Joint",
    "MetaWeightNet",
    "Penalty",
    "Run",
    "SaBiAdam",
    "State",
    "StocBiO",
    "VRSaBiAdam",
    "WholeState",
    "bsgm_guarantee",
    "fixed_lambda",
    "hessian_batches",
    "mean_square_mapping",
    "neumann_terms",
    "projected",
    "run",
    "storm",
    "storm_moments",
    "table",
    "whole_state",
]
