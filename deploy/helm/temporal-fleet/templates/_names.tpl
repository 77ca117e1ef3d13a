{{/*
Name that every object of the release starts with: the release's, so that names stay short. Names of Services
have no dots.
*/}}
{{- define "temporal-fleet.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if .Values.nameOverride -}}
{{- printf "%s-%s" (.Release.Name | replace "." "-") .Values.nameOverride -}}
{{- else -}}
{{- .Release.Name | replace "." "-" -}}
{{- end -}}
{{- end -}}

{{/*
Joins parts to a name of at most 47 characters: Kubernetes appends up to 16 to make the name of a pod.
A name that is cut ends in a hash of the whole, so that two long names stay two.
Argument: a list of parts.
*/}}
{{- define "temporal-fleet.join" -}}
{{- $whole := join "-" . -}}
{{- if gt (len $whole) 47 -}}
{{- printf "%s-%s" (trunc 38 $whole | trimSuffix "-") (sha256sum $whole | trunc 8) -}}
{{- else -}}
{{- $whole -}}
{{- end -}}
{{- end -}}

{{/*
Name of an object that the release has once. Argument: a list of the root and a suffix.
*/}}
{{- define "temporal-fleet.name" -}}
{{- include "temporal-fleet.join" (list (include "temporal-fleet.fullname" (first .)) (last .)) -}}
{{- end -}}

{{/*
host:port of the Temporal frontend. With the namespace in the name, so that KEDA finds the dev server too.
*/}}
{{- define "temporal-fleet.address" -}}
{{- if .Values.temporal.address -}}
{{- .Values.temporal.address -}}
{{- else if .Values.temporal.devServer.enabled -}}
{{- printf "%s.%s.svc:7233" (include "temporal-fleet.name" (list . "dev-server")) .Release.Namespace -}}
{{- end -}}
{{- end -}}

{{/*
Reference of an image. Argument: a dict of image (registry, repository, tag, digest), the tag to use when it has
none, and what the templates in its repository may name.
*/}}
{{- define "temporal-fleet.image" -}}
{{- $repository := tpl (.image.repository | default "") .names -}}
{{- if .image.registry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .image.registry) $repository -}}
{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (.image.tag | default .tag) -}}
{{- end -}}
{{- end -}}

{{/*
Text of a setting: lists joined by commas, numbers without an exponent, which YAML's large ones would get.
*/}}
{{- define "temporal-fleet.text" -}}
{{- if kindIs "slice" . -}}
{{- $texts := list -}}
{{- range $each := . }}{{ $texts = append $texts (include "temporal-fleet.text" $each) }}{{ end -}}
{{- join "," $texts -}}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- printf "%.0f" . -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/*
Whether an API is there, or declared to be: "true" or nothing. Argument: a list of the root and the API.
*/}}
{{- define "temporal-fleet.has-api" -}}
{{- $root := first . -}}
{{- if or (has (last .) $root.Values.apiVersions) ($root.Capabilities.APIVersions.Has (last .)) -}}
true
{{- end -}}
{{- end -}}
