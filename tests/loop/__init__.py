"""Tests of `dpfunc.loop`."""
