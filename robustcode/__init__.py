"""How robust is a trained image classifier, really?"""
