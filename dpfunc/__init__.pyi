from dpfunc import accounting as accounting
from dpfunc import sampling as sampling
from dpfunc.clip import AutoClip as AutoClip
from dpfunc.clip import Clip as Clip
from dpfunc.clip import ClipPerLayer as ClipPerLayer
from dpfunc.compiled import compile as compile
from dpfunc.continuous import laplace as laplace
from dpfunc.continuous import normal as normal
from dpfunc.continuous import uniform as uniform
from dpfunc.discrete import bernoulli as bernoulli
from dpfunc.discrete import discrete_gaussian as discrete_gaussian
from dpfunc.discrete import discrete_laplace as discrete_laplace
from dpfunc.engine import PrivacyEngine as PrivacyEngine
from dpfunc.loop.budget import BudgetSpentError as BudgetSpentError
from dpfunc.modules import check_module as check_module
from dpfunc.modules import fix_module as fix_module
from dpfunc.modules import named_params as named_params
from dpfunc.modules import set_grads_ as set_grads_
from dpfunc.monitoring import monitor as monitor
from dpfunc.noise import GaussianNoise as GaussianNoise
from dpfunc.persample.dense import per_sample_grad as per_sample_grad
from dpfunc.persample.dense import per_sample_grad_and_loss as per_sample_grad_and_loss
from dpfunc.persample.explain import explain as explain
from dpfunc.persample.factored import factored_grad as factored_grad
from dpfunc.persample.loss import batched as batched
from dpfunc.persample.reduce import global_norm as global_norm
from dpfunc.persample.reduce import leaf_norms as leaf_norms
from dpfunc.persample.reduce import weighted_sum as weighted_sum
from dpfunc.random import Key as Key
from dpfunc.random import fold_in as fold_in
from dpfunc.random import key as key
from dpfunc.rounded import rounded_normal as rounded_normal
from dpfunc.step import PrivateGrad as PrivateGrad
from dpfunc.subsets import permutation as permutation
from dpfunc.subsets import subset as subset

__version__: str
__all__: list[str]
