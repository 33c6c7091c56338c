"""Tests of `dpfunc.engine`."""
