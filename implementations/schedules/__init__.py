"""Time grids by what they are laid out in: noise level, flow time, t, timesteps, tables, a learnt grid."""
