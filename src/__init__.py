"""Bakeoff: which image classifier should I use for these pictures, and how sure are you?"""
