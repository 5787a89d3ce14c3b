// The short-range wall of a pair of atoms; student/wall.py has the equations. It is nothing for pairs whose distance is not
// less than ``end``, where all but a few are: callers compare first.
//
// Sizes come from the compiler's command line: ELEMENTS, WALL_REST.
#pragma once

#include "platform.cuh"

struct Wall {
    float end, strength;  // R, A, and S, eV

    // Of two atomic numbers; ``table`` [ELEMENTS * ELEMENTS].
    DEVICE Wall(const float2* table, int one, int other) {
        const float2 row = __ldg(table + one * ELEMENTS + other);
        end = row.x;
        strength = row.y;
    }
    // What the network gets instead of the distance ``d``, A, and the derivative of that.
    DEVICE float seen(float d) const {
        const float t = depth(d), s = share(t);
        return d + end * (t - WALL_REST * (s - s * s * s * (1.0f - 0.5f * s)));
    }
    DEVICE float seen_slope(float d) const {
        const float s = share(depth(d));
        return 1.0f - s * s * (3.0f - 2.0f * s);
    }
    // The energy of the pair, eV, and its derivative, eV/A.
    DEVICE float repulsion(float d) const {
        const float t = depth(d);
        return strength * (t * t * t) / (d / end);
    }
    DEVICE float repulsion_slope(float d) const {
        const float x = d / end, t = depth(d);
        return -strength / end * (t * t) * (1.0f + 2.0f * x) / (x * x);
    }

private:
    DEVICE float depth(float d) const { return max(1.0f - d / end, 0.0f); }
    // Of the way to where the seen distance comes to rest.
    DEVICE float share(float depth) const { return min(depth * (1.0f / WALL_REST), 1.0f); }
};
