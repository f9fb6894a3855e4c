// Blocks of 256 weights: groups whose scales are small whole numbers times a shared float16. The shared scales and the
// whole numbers are chosen together: search each group freely, lay a lattice through what it wants, search the
// lattice points around it by their true error, fit the shared scales to the result, and search again.
// Included inside a namespace.

// The step for which whole multiples come nearest to the wishes of all groups: largest / k for k down to half of most.
template <int groups>
static inline VF lattice_step(const VF* wishes, const VF* curvatures, float most) {
  VF largest = VF{};
  for (int g = 0; g < groups; ++g) largest = f_max(largest, f_abs(wishes[g]));
  VF best_step = VF{}, best_error = f_set(__builtin_inff());
  const float finest = most > 32 ? 0.5f : 0.25f;
  for (float k = most; k >= 0.5f * most; k -= finest) {
    const VF step = f_to_half_grid(largest / k), inverse = f_inverse(step);
    VF error = VF{};
    for (int g = 0; g < groups; ++g) {
      const VF wish = f_abs(wishes[g]), code = f_round(f_min(wish * inverse, f_set(4096)));
      const VF rest = wish - step * f_min(code, f_set(most));
      error += curvatures[g] * rest * rest;
    }
    const VI better = error < best_error;
    f_keep(better, &best_step, step);
    f_keep(better, &best_error, error);
  }
  return best_step;
}

// The step of which most wishes are whole multiples, to a tenth of it: that of weights that lie on a grid already,
// although groups that do not use their outermost codes wish for another place on it.
template <int groups>
static inline VF grid_step(const VF* wishes, float most) {
  VF best_step = VF{}, best_misses = f_set(__builtin_inff());
  for (int reference = 0; reference < groups; ++reference) {
    const VF wish = f_abs(wishes[reference]);
    for (float k = most; k >= 0.25f * most; k -= 1) {
      const VF step = f_to_half_grid(wish / k), inverse = f_inverse(step);
      VF misses = VF{};
      for (int g = 0; g < groups; ++g) {
        const VF multiple = f_min(f_abs(wishes[g]) * inverse, f_set(most + 0.5f)), rest = multiple - f_round(multiple);
        misses += f_min(rest * rest, f_set(0.01f));
      }
      const VI better = misses < best_misses;
      f_keep(better, &best_step, step);
      f_keep(better, &best_misses, misses);
    }
  }
  return best_step;
}

// Q2_K, Q4_K, Q5_K: value = d * scale * code - dmin * minimum, scales and minimums in 0..most.
template <int n, int levels, int most>
struct AffineSuperBlock {
  static constexpr int groups = 256 / n;
  const VF* x;
  const float* w;
  VF scale[groups], minimum[groups], error[groups];  // whole numbers; the groups' errors with them
  VF d, dmin;

  void consider(int g, VF wished_scale, VF wished_minimum) {
    const VF some_scale = f_clamp(wished_scale, 0, most), some_minimum = f_clamp(wished_minimum, 0, most);
    const VF result = affine_error<n, levels>(x + n * g, w + n * g, d * some_scale, -(dmin * some_minimum));
    const VI better = result < error[g];
    f_keep(better, &scale[g], some_scale);
    f_keep(better, &minimum[g], some_minimum);
    f_keep(better, &error[g], result);
  }

  // Lattice points around each group's wish: scales within `near` of it, minimums within `far` strides.
  template <int near, int far, int stride>
  void search(const Affine* wishes) {
    const VF inverse_d = f_inverse(d), inverse_dmin = f_inverse(dmin);
    for (int g = 0; g < groups; ++g) {
      const VF middle = f_round(f_min(wishes[g].scale * inverse_d, f_set(4096)));
      error[g] = f_set(__builtin_inff());
      for (int i = -near; i <= near; ++i) {
        const VF some_scale = f_clamp(middle + float(i), 0, most);
        // With another scale the middle of the range stays where it is.
        const VF moved = (d * some_scale - wishes[g].scale) * (0.5f * levels) - wishes[g].minimum;
        const VF centre = f_round(f_clamp(moved * inverse_dmin, -16, 4096));
        for (int j = -far; j <= far; ++j) consider(g, some_scale, centre + float(stride * j));
        if (far == 0 || i != 0) continue;
        // Codes moved by one or two, where the outermost are not used.
        const VF code = f_min(d * some_scale * inverse_dmin, f_set(1024));
        for (int j = -2; j <= 2; ++j) consider(g, some_scale, centre + f_round(float(j) * code));
      }
    }
  }

  // The shared scales, each lattice judged by its true error: the grid of weights that have one, a first guess, then
  // one scale at a time around the best so far.
  void choose_lattice(const Affine* wishes) {
    constexpr int wide_steps = 40, minimum_steps = 26, fine_steps = 12;
    VF scales[groups], minimums[groups], scale_curvatures[groups], minimum_curvatures[groups];
    for (int g = 0; g < groups; ++g) {
      scales[g] = wishes[g].scale;
      minimums[g] = wishes[g].minimum;
      scale_curvatures[g] = wishes[g].scale_curvature;
      minimum_curvatures[g] = wishes[g].minimum_curvature;
    }
    VF best_d = VF{}, best_dmin = VF{}, least = f_set(__builtin_inff());
    const auto attempt = [&](VF some_d, VF some_dmin, bool is_grid = false) {
      d = f_to_half_grid(some_d);
      dmin = f_to_half_grid(some_dmin);
      // On a grid, groups may wish for another place than theirs; the wider search must gain much to count.
      is_grid ? search<1, 1, 1>(wishes) : search<0, 0, 1>(wishes);
      VF total = VF{};
      for (int g = 0; g < groups; ++g) total += is_grid ? 2.0f * error[g] : error[g];
      const VI better = total < least;
      f_keep(better, &least, total);
      f_keep(better, &best_d, d);
      f_keep(better, &best_dmin, dmin);
    };
    const VF first_d = lattice_step<groups>(scales, scale_curvatures, most);
    attempt(grid_step<groups>(scales, most), grid_step<groups>(minimums, most), true);
    attempt(first_d, lattice_step<groups>(minimums, minimum_curvatures, most));
    // A coarser lattice has more luck to offer than it costs up to a tenth.
    for (int i = 0; i < wide_steps; ++i) attempt(first_d * (0.985f + 0.11f * i / wide_steps), best_dmin);
    const VF near_dmin = best_dmin;
    for (int i = 0; i < minimum_steps; ++i) attempt(best_d, near_dmin * (0.95f + 0.1f * i / minimum_steps));
    const VF near_d = best_d;
    for (int i = 0; i < fine_steps; ++i) attempt(near_d * (1.0f + 0.0025f * (i - fine_steps / 2)), best_dmin);
    d = best_d;
    dmin = best_dmin;
  }

  void search_near() {
    for (int g = 0; g < groups; ++g) {
      const VF middle = scale[g], centre = minimum[g];
      for (int i = -1; i <= 1; ++i)
        for (int j = -1; j <= 1; ++j) consider(g, middle + float(i), centre + float(j));
      consider(g, VF{}, VF{});  // zeros, where float16 has no step that is small enough
    }
  }

  // Shared scales by least squares for the codes that the whole numbers give, kept where the whole block gains.
  void refit() {
    VF ss = VF{}, sm = VF{}, mm = VF{}, sx = VF{}, mx = VF{}, before = VF{};
    for (int g = 0; g < groups; ++g) {
      const VF step = d * scale[g], low = dmin * minimum[g], inverse = f_inverse(step);
      before += error[g];
      for (int i = 0; i < n; ++i) {
        const VF value = x[n * g + i], a = scale[g] * f_round(f_clamp((value + low) * inverse, 0, levels));
        const float weight = w[n * g + i];
        ss += weight * a * a;
        sm += weight * a * minimum[g];
        mm += weight * minimum[g] * minimum[g];
        sx += weight * a * value;
        mx += weight * minimum[g] * value;
      }
    }
    const VF determinant = ss * mm - sm * sm;
    const VI solvable = determinant > 1e-6f * ss * mm;
    const VF old_d = d, old_dmin = dmin;
    const VF new_d = solvable ? (mm * sx - sm * mx) / determinant : (ss > 0.0f ? (sx + old_dmin * sm) / ss : old_d);
    const VF new_dmin = solvable ? (sm * sx - ss * mx) / determinant : old_dmin;
    d = f_to_half_grid(f_max(new_d, VF{}));
    dmin = f_to_half_grid(f_max(new_dmin, VF{}));
    VF after = VF{}, errors[groups];
    for (int g = 0; g < groups; ++g) {
      errors[g] = affine_error<n, levels>(x + n * g, w + n * g, d * scale[g], -(dmin * minimum[g]));
      after += errors[g];
    }
    const VI better = after < before;
    d = better ? d : old_d;
    dmin = better ? dmin : old_dmin;
    for (int g = 0; g < groups; ++g) f_keep(better, &error[g], errors[g]);
  }
};

template <int n, int levels, int most, class Pack>
static inline void encode_affine_super(const Target& target) {
  using Block = AffineSuperBlock<n, levels, most>;
  constexpr int groups = Block::groups;
  Block block;
  block.x = target.x;
  block.w = target.w;
  Affine wishes[groups];
  for (int g = 0; g < groups; ++g) wishes[g] = search_affine<n, levels, true>(target.x + n * g, target.w + n * g);
  block.choose_lattice(wishes);
  block.template search<3, 2, 2>(wishes);
  for (int round = 0; round < 2; ++round) {
    block.refit();
    block.search_near();
  }
  block.refit();
  int8_t codes[256 * lanes];
  for (int g = 0; g < groups; ++g) {
    const VF inverse = f_inverse(block.d * block.scale[g]), low = block.dmin * block.minimum[g];
    for (int i = n * g; i < n * (g + 1); ++i)
      store_code(codes, i, f_round(f_clamp((target.x[i] + low) * inverse, 0, levels)));
  }
  for (int row = 0; row < target.num_rows; ++row) {
    uint8_t scales[groups], minimums[groups];
    for (int g = 0; g < groups; ++g) {
      scales[g] = static_cast<uint8_t>(block.scale[g][row]);
      minimums[g] = static_cast<uint8_t>(block.minimum[g][row]);
    }
    Pack::pack({codes + row}, scales, minimums, block.d[row], block.dmin[row], target.out + row * target.stride);
  }
}

// Q3_K, Q6_K: value = d * scale * code, groups of 16, scales of either sign.
template <class Pack>
static inline void encode_symmetric_super(const Target& target, Symmetric range, float lowest, Sweep sweep) {
  constexpr int n = 16, groups = 16;
  const float most = -lowest - 1;
  VF scale[groups], error[groups], wished[groups], curvatures[groups], largest = VF{};
  for (int g = 0; g < groups; ++g) {
    const VF* x = target.x + n * g;
    wished[g] = search_symmetric<n>(x, target.w + n * g, range, sweep, [](VF wish) { return wish; }).scale;
    curvatures[g] = symmetric_fit<n>(x, target.w + n * g, wished[g], range).energy;
    largest = f_abs(wished[g]) > f_abs(largest) ? wished[g] : largest;
  }
  // The scale furthest from zero takes the negative end, which reaches one further.
  const VF step = lattice_step<groups>(wished, curvatures, -lowest);
  VF d = largest > 0.0f ? -step : step;
  const auto consider = [&](int g, VF wish) {
    const VF some = f_clamp(wish, lowest, most);
    const VF result = symmetric_error<n>(target.x + n * g, target.w + n * g, d * some, range);
    const VI better = result < error[g];
    f_keep(better, &scale[g], some);
    f_keep(better, &error[g], result);
  };
  const VF inverse_d = f_inverse(d);
  for (int g = 0; g < groups; ++g) {
    const VF middle = f_round(f_clamp(wished[g] * inverse_d, -4096, 4096));
    error[g] = f_set(__builtin_inff());
    scale[g] = VF{};
    for (int i = -4; i <= 4; ++i) consider(g, middle + float(i));
    for (int i = -4; i <= 4; ++i) consider(g, float(i) - middle);
  }
  for (int round = 0; round < 2; ++round) {
    VF projection = VF{}, energy = VF{}, before = VF{}, after = VF{}, errors[groups];
    for (int g = 0; g < groups; ++g) {
      const Fit fit = symmetric_fit<n>(target.x + n * g, target.w + n * g, d * scale[g], range);
      projection += scale[g] * fit.projection;
      energy += scale[g] * scale[g] * fit.energy;
      before += error[g];
    }
    const VF fitted = f_to_half_grid(energy > 0.0f ? projection / energy : VF{});
    for (int g = 0; g < groups; ++g) {
      errors[g] = symmetric_error<n>(target.x + n * g, target.w + n * g, fitted * scale[g], range);
      after += errors[g];
    }
    const VI better = after < before;
    f_keep(better, &d, fitted);
    for (int g = 0; g < groups; ++g) {
      f_keep(better, &error[g], errors[g]);
      const VF middle = scale[g];
      consider(g, middle - 1.0f);
      consider(g, middle + 1.0f);
    }
  }
  int8_t codes[256 * lanes];
  for (int i = 0; i < 256; ++i)
    store_code(codes, i, code_of(target.x[i], f_inverse(d * scale[i / n]), range) - range.low);
  for (int row = 0; row < target.num_rows; ++row) {
    uint8_t scales[groups];
    const float added = lowest == -32 ? 32.0f : 0.0f;
    for (int g = 0; g < groups; ++g) scales[g] = static_cast<uint8_t>(static_cast<int8_t>(scale[g][row] + added));
    Pack::pack({codes + row}, scales, d[row], target.out + row * target.stride);
  }
}
