"""Time grids, one file per variable in which they are spaced: noise level, flow time, t, timesteps, tables, learnt."""
