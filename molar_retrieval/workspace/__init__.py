"""The workspace: a folder (``.molar``) with everything the commands make for one catalogue; settings and jobs."""
