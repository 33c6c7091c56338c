"""Tests of `dpfunc.integrations`."""
