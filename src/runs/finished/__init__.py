"""Operations on finished runs: measuring a part again, labelling pictures, exporting variants.

A run's folder comes in; measurements, tables and files beside the run go out. Modules here may call
everything else in `src.runs`, serving and reporting.
"""
