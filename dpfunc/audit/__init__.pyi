from dpfunc.audit.canaries.gradient_canaries import Canaries as Canaries
from dpfunc.audit.canaries.gradient_canaries import coins as coins
from dpfunc.audit.canaries.gradient_canaries import gradient_canaries as gradient_canaries
from dpfunc.audit.canaries.gradient_canaries import real_numbers as real_numbers
from dpfunc.audit.canaries.release import ReleaseAudit as ReleaseAudit
from dpfunc.audit.canaries.release import audit_release as audit_release
from dpfunc.audit.canaries.release import release_scores as release_scores
from dpfunc.audit.statistics.answers import epsilon_lower_bound as epsilon_lower_bound
from dpfunc.audit.statistics.answers import gaussian_epsilon as gaussian_epsilon
from dpfunc.audit.statistics.answers import mu_lower_bound as mu_lower_bound
from dpfunc.audit.statistics.answers import test_claim as test_claim
from dpfunc.audit.statistics.scores import Result as Result
from dpfunc.audit.statistics.scores import Scores as Scores
from dpfunc.audit.statistics.sequential import Sequential as Sequential
from dpfunc.audit.statistics.sequential import SequentialState as SequentialState
from dpfunc.audit.steps.adapters import of_private_grad as of_private_grad
from dpfunc.audit.steps.noise_check import check_noise as check_noise
from dpfunc.audit.steps.replay import replay as replay
from dpfunc.audit.steps.report import Finding as Finding
from dpfunc.audit.steps.report import Report as Report
from dpfunc.audit.steps.sampler_check import check_sampler as check_sampler
from dpfunc.audit.steps.step_check import check_step as check_step

__all__: list[str]
