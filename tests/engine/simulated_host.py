"""The simulated host is the engine's own (`ratchet simulate`); tests script its faults."""

from engine.simulated_host import CODES, TICK, Ending, Execution, Machine, Program, SimulatedHost

__all__ = ["CODES", "TICK", "Ending", "Execution", "Machine", "Program", "SimulatedHost"]
