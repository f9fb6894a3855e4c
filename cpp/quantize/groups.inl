// Scale, and minimum, of one group of n weights for each lane, by the weighted error that a reader will see.
// Equals gemcut.quantize.dequantize's formulas for a given scale; the search itself has no reference to equal.
// Included inside a namespace, after lanes.h.

// Codes low..high around zero: value = scale * code.
struct Symmetric {
  float low, high;
};

static inline VF code_of(VF x, VF inverse, Symmetric range) { return f_round(f_clamp(x * inverse, range.low, range.high)); }

template <int n>
static inline VF symmetric_error(const VF* x, const float* w, VF scale, Symmetric range) {
  const VF inverse = f_inverse(scale);
  VF error = VF{};
  for (int i = 0; i < n; ++i) {
    const VF rest = x[i] - scale * code_of(x[i], inverse, range);
    error += w[i] * rest * rest;
  }
  return error;
}

// What a group's codes say about the best scale: least squares gives projection / energy.
struct Fit {
  VF projection, energy;  // sum of w x code, sum of w code^2
};

template <int n>
static inline Fit symmetric_fit(const VF* x, const float* w, VF scale, Symmetric range) {
  const VF inverse = f_inverse(scale);
  Fit fit = {};
  for (int i = 0; i < n; ++i) {
    const VF code = code_of(x[i], inverse, range), weighted = w[i] * code;
    fit.projection += weighted * x[i];
    fit.energy += weighted * code;
  }
  return fit;
}

// The value furthest from zero, with its sign.
template <int n>
static inline VF extreme_of(const VF* x) {
  VF extreme = x[0];
  for (int i = 1; i < n; ++i) extreme = f_abs(x[i]) > f_abs(extreme) ? x[i] : extreme;
  return extreme;
}

// Scales to try put the extreme value on code k (of either sign where the range has two): every whole k, so that
// weights that lie on a grid come back exactly, and `fine` steps a code from `from` times the range to `to` times it.
struct Sweep {
  float from, to, fine;
  bool two_signs;
};

template <class Use>
static inline void for_each_code(Symmetric range, Sweep sweep, Use&& use) {
  const float widest = -range.low;
  const float dense = __builtin_floorf(sweep.from * widest);
  for (float k = 1; k < dense; k += 1) use(k);
  for (float k = dense; k <= sweep.to * widest; k += 1 / sweep.fine) use(k);
}

struct Found {
  VF scale, error;
};

static inline void keep_better(Found* best, VF scale, VF error) {
  const VI better = error < best->error;
  f_keep(better, &best->scale, scale);
  f_keep(better, &best->error, error);
}

// The scale of least error. `on_grid` rounds a wish to what can be stored.
template <int n, class OnGrid>
static inline Found search_symmetric(const VF* x, const float* w, Symmetric range, Sweep sweep, OnGrid&& on_grid) {
  const VF extreme = sweep.two_signs ? extreme_of<n>(x) : -f_abs(extreme_of<n>(x));
  Found best = {VF{}, symmetric_error<n>(x, w, VF{}, range)};
  for_each_code(range, sweep, [&](float k) {
    const VF scale = on_grid(extreme / -k);
    keep_better(&best, scale, symmetric_error<n>(x, w, scale, range));
    if (!sweep.two_signs) return;
    keep_better(&best, -scale, symmetric_error<n>(x, w, -scale, range));
  });
  for (int round = 0; round < 3; ++round) {
    const Fit fit = symmetric_fit<n>(x, w, best.scale, range);
    const VF scale = on_grid(fit.energy > 0.0f ? fit.projection / fit.energy : VF{});
    keep_better(&best, scale, symmetric_error<n>(x, w, scale, range));
  }
  return best;
}

// Codes 0..levels above a minimum: value = scale * code + minimum.
struct Affine {
  VF scale, minimum, error;
  VF scale_curvature, minimum_curvature;  // how fast the error grows with either, the other following
};

// A group's weights above `base`, where sums of squares lose no digits to the distance from zero.
template <int n>
struct Shifted {
  VF x[n], base, range;
  VF weight, sum, squares;  // sums of w, w x, w x^2
  // With `negative`, the base is at most zero, which belongs to the range.
  Shifted(const VF* values, const float* w, bool negative) : base(values[0]), weight{}, sum{}, squares{} {
    VF high = values[0];
    for (int i = 1; i < n; ++i) {
      base = f_min(base, values[i]);
      high = f_max(high, values[i]);
    }
    if (negative) base = f_min(base, VF{});
    range = high - base;
    for (int i = 0; i < n; ++i) {
      x[i] = values[i] - base;
      weight += f_set(w[i]);
      sum += w[i] * x[i];
      squares += w[i] * x[i] * x[i];
    }
  }
};

template <int n, int levels>
static inline VF affine_error(const VF* x, const float* w, VF scale, VF minimum) {
  const VF inverse = f_inverse(scale);
  VF error = VF{};
  for (int i = 0; i < n; ++i) {
    const VF above = x[i] - minimum;
    const VF rest = above - scale * f_round(f_clamp(above * inverse, 0, levels));
    error += w[i] * rest * rest;
  }
  return error;
}

// Least squares for the codes that 1 / inverse and `minimum`, above the base, give. With `negative`, the minimum is at
// most zero.
template <int n, int levels, bool negative>
static inline void try_affine(const Shifted<n>& group, const float* w, VF inverse, VF minimum, Affine* best) {
  VF l = VF{}, ll = VF{}, xl = VF{};
  const VF offset = -minimum * inverse;
  for (int i = 0; i < n; ++i) {
    const VF code = f_round(f_clamp(group.x[i] * inverse + offset, 0, levels)), weighted = w[i] * code;
    l += weighted;
    ll += weighted * code;
    xl += weighted * group.x[i];
  }
  const VF determinant = group.weight * ll - l * l;
  VF scale = (group.weight * xl - group.sum * l) / determinant;
  VF fitted = (group.sum - scale * l) / group.weight;
  if constexpr (negative) {
    const VI above = fitted > -group.base;
    f_keep(above, &fitted, -group.base);
    f_keep(above, &scale, (xl - fitted * l) / ll);
  }
  const VF error = group.squares + fitted * (fitted * group.weight - 2.0f * group.sum) +
                   scale * (scale * ll + 2.0f * (fitted * l - xl));
  const VI better = (error < best->error) & (determinant > 1e-6f * group.weight * ll) & (scale > 0.0f);
  f_keep(better, &best->scale, scale);
  f_keep(better, &best->minimum, fitted);
  f_keep(better, &best->error, error);
  f_keep(better, &best->scale_curvature, determinant / group.weight);
  f_keep(better, &best->minimum_curvature, determinant / ll);
}

// Scales from 0.77 to 1.25 times what the range asks, and every whole number of steps below; for each, the range is
// moved over the codes by up to 0.6 of a step.
template <int n, int levels, bool negative>
static inline Affine search_affine(const VF* x, const float* w) {
  const Shifted<n> group(x, w, negative);
  const VF inverse_range = f_inverse(group.range);
  Affine best = {group.range / float(levels), VF{}, f_set(__builtin_inff()), group.weight, group.weight};
  for (int k = 1; k < levels; ++k) try_affine<n, levels, negative>(group, w, float(k) * inverse_range, VF{}, &best);
  constexpr int num_scales = 10, num_shifts = 5;
  for (int i = 0; i < num_scales; ++i) {
    const float k = levels * (0.8f + 0.5f * i / num_scales);
    const VF inverse = k * inverse_range, step = group.range / k;
    for (int j = 0; j < num_shifts; ++j) {
      const VF minimum = step * ((k - levels) * 0.5f + 0.3f * (j - num_shifts / 2));
      try_affine<n, levels, negative>(group, w, inverse, minimum, &best);
    }
  }
  for (int round = 0; round < 2; ++round)
    try_affine<n, levels, negative>(group, w, f_inverse(best.scale), best.minimum, &best);
  best.minimum += group.base;
  return best;
}
