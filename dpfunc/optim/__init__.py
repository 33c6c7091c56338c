"""What an optimiser can make of private gradients: post-processing, which costs no privacy.

In: private gradients, the deviation of their noise, which is public, and earlier releases.
Out: better steps: Adam without the noise's share of its second moments, averages of parameters,
gradients that are clipped and made noisy in the units that the optimiser divides by.
Read first: `adam_bc.py`.
"""

from dpfunc.optim.adam_bc import AdamBC as AdamBC
from dpfunc.optim.adam_bc import adam_bc as adam_bc
from dpfunc.optim.adam_bc import adam_bc_init as adam_bc_init
from dpfunc.optim.averages import averaged as averaged
from dpfunc.optim.averages import warm_average as warm_average
from dpfunc.optim.scaled import row_column_scales as row_column_scales
from dpfunc.optim.scaled import scaled_update as scaled_update
from dpfunc.optim.scaled import with_budgets as with_budgets
