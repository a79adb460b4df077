"""What every experiment is made of.

experiment.py says what one is, note.py what its words are, context.py what it is given. It asks for trainings
(trial.py) and measurements, which store.py keeps under the hash of what decides them (sources.py). rate_search.py
chooses learning rates; budget.py and setup.py say how much and from what. pace.py, prefix.py and skipping.py are
instruments.
"""
