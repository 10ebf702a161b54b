"""Bakeoff: which image classifier should I use for these pictures, and how sure are you?"""

# Before any other import of the project: it must come before whatever loads OpenMP.
from src.machine import openmp as openmp
