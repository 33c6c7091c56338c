"""Who takes part in the step benchmark, in the order of the tables."""

from benchmarks.contenders import (
    dpfunc_steps,
    jax_steps,
    opacus_steps,
    opake_steps,
    plain,
)
from benchmarks.contenders.contract import Builder

PLAIN = "plain PyTorch"

CONTENDERS: dict[str, Builder] = {
    PLAIN: plain.plain,
    "dpfunc": dpfunc_steps.factored,
    "dpfunc without noise": dpfunc_steps.without_noise,
    "dpfunc engine": dpfunc_steps.engine,
    "dpfunc compiled": dpfunc_steps.compiled,
    "dpfunc replayed": dpfunc_steps.replayed,
    "dpfunc dense": dpfunc_steps.dense,
    "Opacus hooks": opacus_steps.hooks,
    "Opacus functorch": opacus_steps.functorch,
    "Opacus ghost": opacus_steps.ghost,
    "opake": opake_steps.step,
    "plain JAX": jax_steps.plain,
    "JAX-Privacy": jax_steps.private,
    "Python loop": plain.python_loop,
}
