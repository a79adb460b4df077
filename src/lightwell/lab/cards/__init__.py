"""The verdict card, which every experiment ends in: card.py holds it, shown.py and page.py make text and HTML of it.

figures.py has what all pictures have in common, style.py how the page looks.
"""
