"""`python -m molar_eval`: the leave-one-out check."""

from molar_retrieval.openmp import wait_politely

if __name__ == "__main__":
    wait_politely()
    from molar_eval.leave_one_out import main

    main()
