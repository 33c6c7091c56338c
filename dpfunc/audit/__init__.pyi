from dpfunc.audit.statistics.answers import epsilon_lower_bound as epsilon_lower_bound
from dpfunc.audit.statistics.answers import gaussian_epsilon as gaussian_epsilon
from dpfunc.audit.statistics.answers import mu_lower_bound as mu_lower_bound
from dpfunc.audit.statistics.answers import test_claim as test_claim
from dpfunc.audit.statistics.scores import Result as Result
from dpfunc.audit.statistics.scores import Scores as Scores
from dpfunc.audit.statistics.sequential import Sequential as Sequential
from dpfunc.audit.statistics.sequential import SequentialState as SequentialState

__all__: list[str]
